"""How models are tried in turn, and when the chain gives up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_tiered.errors import AllTiersFailed
from llm_tiered.log.record import Attempt
from llm_tiered.router.attempts import Check, Recall, Try, Wait, run
from llm_tiered.router.candidates import Candidate
from llm_tiered.router.cooldowns import Cooldowns
from llm_tiered.router.problem import Problem
from tests.router.chain import (
    BROKEN,
    BUSY,
    DOWN,
    UNFIT,
    A,
    B,
    C,
    World,
    asks_to_wait,
    outcomes,
)


def test_first_model_answers() -> None:
    """A model that can answer is checked and tried once; no other model is touched."""
    world = World()
    assert world.run(A, B, C) is A
    assert world.steps == [Check(A), Try(A)]
    assert world.attempts == [Attempt("small", "mlx/a", "ok", None, 0)]


def test_unfit_model_is_skipped() -> None:
    """A model that is known not to work is skipped, and the next one is tried."""
    world = World(checks={A.model: UNFIT})
    assert world.run(A, B, C) is B
    assert world.steps == [Check(A), Check(B), Try(B)]
    assert outcomes(world.attempts) == [
        ("mlx/a", "skipped", "not downloaded"),
        ("gemini/b", "ok", None),
    ]


def test_failing_model_is_followed_by_the_next() -> None:
    """A model that fails is recorded as failed, and the next one answers."""
    world = World(tries={A.model: [BROKEN]})
    assert world.run(A, B, C) is B
    assert world.steps == [Check(A), Try(A), Check(B), Try(B)]
    assert outcomes(world.attempts) == [
        ("mlx/a", "failed", "wrong options"),
        ("gemini/b", "ok", None),
    ]


def test_attempts_are_recorded_as_they_end() -> None:
    """Attempts are visible while the chain is still running."""
    attempts: list[Attempt] = []
    chain = run([A, B], Cooldowns(), attempts)
    assert next(chain) == Check(A)
    assert attempts == []
    assert chain.send(UNFIT) == Check(B)
    assert outcomes(attempts) == [("mlx/a", "skipped", "not downloaded")]
    assert chain.send(None) == Try(B)
    assert len(attempts) == 1
    with pytest.raises(StopIteration) as end:
        chain.send(None)
    assert end.value.value is B
    assert len(attempts) == 2


def test_nothing_answers() -> None:
    """If nothing answers, the error lists every attempt with its reason and its fix."""
    world = World(checks={A.model: UNFIT}, tries={B.model: [BROKEN], C.model: [DOWN]})
    with pytest.raises(AllTiersFailed) as caught:
        world.run(A, B, C)
    assert str(caught.value).splitlines() == [
        "no model could answer:",
        "  small (mlx/a) skipped: not downloaded → llm tiered download mlx/a",
        "  cloud (gemini/b) failed: wrong options",
        "  embedded (mlx/c) failed: MLX failed",
    ]
    assert [attempt.outcome for attempt in world.attempts] == ["skipped", "failed", "failed"]


# Retries


def test_transient_problem_is_retried_twice() -> None:
    """A transient problem is retried after 1 and 4 seconds, and not a third time."""
    world = World(tries={A.model: [BUSY] * 5})
    assert world.run(A, B) is B
    assert world.steps == [
        *(Check(A), Try(A), Wait(1.0), Try(A), Wait(4.0), Try(A)),
        *(Check(B), Try(B)),
    ]
    assert outcomes(world.attempts) == [
        ("mlx/a", "failed", "overloaded"),
        ("gemini/b", "ok", None),
    ]


def test_what_a_library_has_retried_is_not_retried() -> None:
    """A transient problem that a model's own library has met thrice is left at that."""
    world = World(tries={A.model: [replace(BUSY, retried=True)]})
    assert world.run(A, B) is B
    assert world.steps == [Check(A), Try(A), Check(B), Try(B)]
    assert world.run(A, B) is B
    assert world.steps == [Check(B), Try(B)]


@pytest.mark.parametrize(
    ("problems", "waited"), [([BUSY, None], [1.0]), ([BUSY, BUSY, None], [1.0, 4.0])]
)
def test_retry_that_helps(problems: list[Problem | None], waited: list[float]) -> None:
    """A model that answers after a retry has one attempt, and its outcome is ok."""
    world = World(tries={A.model: problems})
    assert world.run(A, B) is A
    assert [step.seconds for step in world.steps if isinstance(step, Wait)] == waited
    assert outcomes(world.attempts) == [("mlx/a", "ok", None)]


def test_retry_that_meets_another_problem() -> None:
    """A retry that meets a lasting problem is the last one, and that problem is reported."""
    world = World(tries={A.model: [BUSY, BROKEN]})
    assert world.run(A, B) is B
    assert world.steps[:4] == [Check(A), Try(A), Wait(1.0), Try(A)]
    assert world.attempts[0].reason == "wrong options"


@pytest.mark.parametrize("problem", [BROKEN, DOWN])
def test_lasting_problem_is_not_retried(problem: Problem) -> None:
    """A problem that is not transient is met once."""
    world = World(tries={A.model: [problem]})
    world.run(A, B)
    assert world.steps.count(Try(A)) == 1
    assert not any(isinstance(step, Wait) for step in world.steps)


@pytest.mark.parametrize(
    ("told", "waited"),
    [
        ([0.25, 0.25], [1.0, 4.0]),
        ([2.5], [2.5]),
        ([7.2], [7.2]),
        ([7.2, 1.0], [7.2]),
        ([10.0], [10.0]),
        ([10.1], []),
        ([3600.0], []),
    ],
)
def test_wait_as_told(told: list[float], waited: list[float]) -> None:
    """A model is waited for as long as it asks, not less than usual, and 10 seconds in all."""
    world = World(tries={A.model: [*map(asks_to_wait, told)]})
    answered = world.run(A, B)
    assert [step.seconds for step in world.steps if isinstance(step, Wait)] == waited
    assert answered is (A if len(waited) == len(told) else B)


def test_wait_says_who_asks() -> None:
    """A wait that is longer than usual names the model that asks for it."""
    world = World(tries={A.model: [asks_to_wait(7.2)]})
    world.run(A)
    assert Wait(7.2, A) in world.steps
    world = World(tries={A.model: [BUSY]})
    world.run(A)
    assert Wait(1.0) in world.steps


def test_skip_is_not_retried() -> None:
    """A skipped model is checked once, even if the reason is transient."""
    world = World(checks={A.model: BUSY})
    world.run(A, B)
    assert world.steps == [Check(A), Check(B), Try(B)]


# Time


@pytest.mark.parametrize(
    ("problems", "milliseconds"),
    [([], 250), ([BROKEN], 250), ([BUSY, None], 1500), ([BUSY] * 3, 5750)],
)
def test_milliseconds_of_an_attempt(problems: list[Problem | None], milliseconds: int) -> None:
    """An attempt's time includes all its tries and the waits between them."""
    world = World(tries={A.model: problems}, seconds_per_try=0.25)
    world.run(A, B)
    assert world.attempts[0].ms == milliseconds


def test_each_attempt_has_its_own_time() -> None:
    """Earlier attempts do not count towards an attempt's time."""
    world = World(tries={A.model: [BROKEN]}, seconds_per_try=0.25)
    world.run(A, B)
    assert [attempt.ms for attempt in world.attempts] == [250, 250]


# Earlier answers


def test_earlier_answer_is_enough() -> None:
    """A model with an earlier answer is neither checked nor tried."""
    world = World(remembered={A.model}, checks={A.model: UNFIT})
    assert world.run(A, B, recall=True) is A
    assert world.steps == [Recall(A)]
    assert world.attempts == [Attempt("small", "mlx/a", "ok", None, 0)]


def test_without_an_earlier_answer_it_is_asked() -> None:
    """Each model's earlier answers are searched when its turn comes."""
    world = World(remembered={B.model}, tries={A.model: [BROKEN]})
    assert world.run(A, B, recall=True) is B
    assert world.steps == [Recall(A), Check(A), Try(A), Recall(B)]


# Weak answers

WEAK = Problem("escalated: cut off", escalates=True, usable=True)
EMPTY = Problem("escalated: empty", escalates=True)
WRONG = Problem("escalated: no JSON", escalates=True, usable=True, correction="no JSON")
M = Candidate("medium", "mlx/m", place="here")
LADDER = (C, A, M, B)


def test_weak_answer_escalates() -> None:
    """After a weak answer the next larger model is tried, not the smaller ones."""
    world = World(tries={A.model: [WEAK]})
    assert world.run(A, C, B, ladder=LADDER) is M
    assert [attempt.model for attempt in world.attempts] == ["mlx/a", "mlx/m"]


def test_weak_answer_as_a_last_resort() -> None:
    """If no larger model answers, the weak answer of the largest one is used."""
    world = World(tries={A.model: [WEAK], M.model: [WEAK]}, checks={B.model: UNFIT})
    assert world.run(A, C, B, ladder=LADDER) is M
    assert outcomes(world.attempts)[-1] == ("mlx/m", "ok", "no higher tier answered")


def test_empty_answer_escalates() -> None:
    """An answer that can't be shown escalates; if no larger model answers, the chain goes on."""
    world = World(tries={A.model: [EMPTY]}, checks={M.model: UNFIT, B.model: UNFIT})
    assert world.run(A, C, B, ladder=LADDER) is C
    assert [attempt.model for attempt in world.attempts] == ["mlx/a", "mlx/m", "gemini/b", "mlx/c"]


def test_correction_is_tried_once() -> None:
    """A model is corrected once, and then the next one is tried."""
    world = World(tries={A.model: [WRONG, None]})
    assert world.run(A, B, ladder=LADDER) is A
    assert world.steps == [Check(A), Try(A), Try(A, "no JSON")]
    world = World(tries={A.model: [WRONG, WRONG]})
    assert world.run(A, B, ladder=LADDER) is M


def test_weak_fallback_escalates_past_what_was_tried() -> None:
    """After a fallback's weak answer, only models that were not tried yet follow."""
    world = World(checks={M.model: UNFIT}, tries={A.model: [WEAK]})
    assert world.run(M, A, B, C, ladder=LADDER) is B
    assert [attempt.model for attempt in world.attempts] == ["mlx/m", "mlx/a", "gemini/b"]
