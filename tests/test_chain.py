"""Which models are tried, in what order, and when the chain gives up."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, get_args

import pytest

from llm_tiered.chain import (
    COOLDOWN,
    Attempt,
    Candidate,
    Check,
    Cooldowns,
    Problem,
    Step,
    Try,
    Wait,
    order,
    run,
)
from llm_tiered.config import Config, Fallback, Settings
from llm_tiered.errors import AllTiersFailed
from llm_tiered.mlx.catalog import EMBEDDED
from llm_tiered.routing import Request, decide

if TYPE_CHECKING:
    from collections.abc import Sequence

PHI, QWEN = "mlx/Phi-3.5-mini-instruct-4bit", "mlx/Qwen2.5-7B-Instruct-4bit"
GEMINI = "gemini/gemini-flash-latest"


def _settings(*tiers: tuple[str, str, str], force_local: bool | None = None) -> Settings:
    entries = [
        {"name": name, "complexity": complexity, "model": model}
        for name, complexity, model in tiers
    ]
    config = Config.model_validate({"tiers": entries}) if entries else Config()
    return Settings(config, force_local)


def _order(settings: Settings, complexity: int, **request: Any) -> list[str]:
    """The tiers of the chain, by name, for a request of that complexity."""
    decision = decide(Request(complexity=complexity, **request), settings)
    return [candidate.tier for candidate in order(decision, settings)]


# The order

S, M, L = 2, 6, 9  # one complexity for each of the default tiers


@pytest.mark.parametrize(
    ("complexity", "fallback", "expected"),
    [
        (S, "any", ["small", "cloud", "embedded"]),
        (M, "any", ["medium", "small", "cloud", "embedded"]),
        (L, "any", ["cloud", "medium", "small", "embedded"]),
        (S, "local", ["small", "embedded"]),
        (M, "local", ["medium", "small", "embedded"]),
        (L, "local", ["cloud", "medium", "small", "embedded"]),
        (S, "none", ["small"]),
        (M, "none", ["medium"]),
        (L, "none", ["cloud"]),
    ],
)
def test_order(complexity: int, fallback: Fallback, expected: list[str]) -> None:
    """The tier, smaller local ones, the cloud, the embedded model; `fallback` shortens that."""
    assert _order(_settings(), complexity, fallback=fallback) == expected


@pytest.mark.parametrize(
    ("complexity", "fallback", "expected"),
    [
        (S, "any", ["small", "embedded"]),
        (M, "any", ["medium", "small", "embedded"]),
        (L, "any", ["medium", "small", "embedded"]),
        (S, "local", ["small", "embedded"]),
        (M, "local", ["medium", "small", "embedded"]),
        (L, "local", ["medium", "small", "embedded"]),
        (S, "none", ["small"]),
        (M, "none", ["medium"]),
        (L, "none", ["medium"]),
    ],
)
@pytest.mark.parametrize("force_local", [None, True, False])
def test_order_of_a_private_request(
    complexity: int, fallback: Fallback, expected: list[str], force_local: bool | None
) -> None:
    """What may not leave this machine meets local models only, whatever else is said."""
    settings = _settings(force_local=force_local)
    assert _order(settings, complexity, fallback=fallback, local_only=True) == expected


@pytest.mark.parametrize("complexity", [S, M, L])
@pytest.mark.parametrize("fallback", get_args(Fallback))
def test_order_of_the_rollback(complexity: int, fallback: Fallback) -> None:
    """With FORCE_LOCAL_LLM=false only the cloud is asked."""
    assert _order(_settings(force_local=False), complexity, fallback=fallback) == ["cloud"]


def test_candidates_carry_what_their_tier_says() -> None:
    """A candidate has the model and the options of its tier; the embedded model has none."""
    settings = _settings()
    assert order(decide(Request(complexity=M), settings), settings) == (
        Candidate("medium", QWEN, local=True, options={"max_tokens": 4096}),
        Candidate("small", PHI, local=True, options={"max_tokens": 2048}),
        Candidate("cloud", GEMINI, local=False, options={"timeout": 120}),
        Candidate("embedded", EMBEDDED.model_id, local=True),
    )


TINY = (("small", "1-4", EMBEDDED.model_id), ("medium", "5-7", QWEN), ("cloud", "8-10", GEMINI))
TWO_CLOUDS = (("small", "1-4", PHI), ("cheap", "5-7", "gemini/a"), ("smart", "8-10", "gemini/b"))
SAME_MODEL = (("small", "1-4", PHI), ("medium", "5-7", PHI), ("cloud", "8-10", GEMINI))
NO_CLOUD = (("small", "1-4", PHI), ("medium", "5-10", QWEN))
NO_LOCAL = (("cheap", "1-7", "gemini/a"), ("smart", "8-10", "gemini/b"))
CLOUD_BELOW = (("cheap", "1-4", GEMINI), ("big", "5-10", QWEN))


@pytest.mark.parametrize(
    ("tiers", "complexity", "expected"),
    [
        (TINY, S, ["small", "cloud"]),
        (TINY, M, ["medium", "small", "cloud"]),
        (TINY, L, ["cloud", "medium", "small"]),
        (TWO_CLOUDS, S, ["small", "cheap", "smart", "embedded"]),
        (TWO_CLOUDS, M, ["cheap", "smart", "small", "embedded"]),
        (TWO_CLOUDS, L, ["smart", "cheap", "small", "embedded"]),
        (SAME_MODEL, S, ["small", "cloud", "embedded"]),
        (SAME_MODEL, M, ["medium", "cloud", "embedded"]),
        (SAME_MODEL, L, ["cloud", "medium", "embedded"]),
        (NO_CLOUD, S, ["small", "embedded"]),
        (NO_CLOUD, L, ["medium", "small", "embedded"]),
        (NO_LOCAL, S, ["cheap", "smart", "embedded"]),
        (NO_LOCAL, L, ["smart", "cheap", "embedded"]),
        (CLOUD_BELOW, S, ["cheap", "big", "embedded"]),
        (CLOUD_BELOW, L, ["big", "cheap", "embedded"]),
    ],
)
def test_order_of_other_tiers(
    tiers: tuple[tuple[str, str, str], ...], complexity: int, expected: list[str]
) -> None:
    """The tier itself comes first whatever the tiers are, and no model comes twice."""
    assert _order(_settings(*tiers), complexity) == expected


@pytest.mark.parametrize(
    ("tiers", "complexity", "request_", "expected"),
    [
        (TWO_CLOUDS, M, {"fallback": "local"}, ["cheap", "small", "embedded"]),
        (TWO_CLOUDS, M, {"fallback": "none"}, ["cheap"]),
        (TWO_CLOUDS, M, {"local_only": True}, ["small", "embedded"]),
        (TINY, S, {"fallback": "local"}, ["small"]),
        (TINY, L, {"local_only": True}, ["medium", "small"]),
        (NO_LOCAL, S, {"local_only": True}, ["embedded"]),
        (NO_LOCAL, S, {"local_only": True, "fallback": "none"}, ["embedded"]),
        (NO_LOCAL, L, {"fallback": "local"}, ["smart", "embedded"]),
    ],
)
def test_shorter_order_of_other_tiers(
    tiers: tuple[tuple[str, str, str], ...],
    complexity: int,
    request_: dict[str, Any],
    expected: list[str],
) -> None:
    """Privacy and `fallback` shorten the chain of any tiers."""
    assert _order(_settings(*tiers), complexity, **request_) == expected


def test_order_of_the_rollback_with_two_clouds() -> None:
    """With FORCE_LOCAL_LLM=false both cloud tiers are asked, the decision's first."""
    settings = _settings(*TWO_CLOUDS, force_local=False)
    assert _order(settings, S) == ["cheap", "smart"]
    assert _order(settings, L) == ["smart", "cheap"]


@pytest.mark.parametrize("tiers", [(), TINY, TWO_CLOUDS, SAME_MODEL, NO_LOCAL, CLOUD_BELOW])
def test_every_order_keeps_the_rules(tiers: tuple[tuple[str, str, str], ...]) -> None:
    """Whatever is asked for: the decision comes first, nothing twice, and privacy holds."""
    for complexity, fallback, local_only, force_local in product(
        range(1, 11), get_args(Fallback), (False, True), (None, True, False)
    ):
        settings = _settings(*tiers, force_local=force_local)
        request = Request(complexity=complexity, fallback=fallback, local_only=local_only)
        decision = decide(request, settings)
        candidates = order(decision, settings)
        models = [candidate.model for candidate in candidates]
        assert (candidates[0].tier, models[0]) == (decision.tier, decision.model)
        assert len(set(models)) == len(models)
        assert all(candidate.local for candidate in candidates) or not decision.keep_local
        assert not any(candidate.local for candidate in candidates if decision.cloud_only)
        assert all(
            candidate.local == candidate.model.startswith("mlx/") for candidate in candidates
        )


# The run

A = Candidate("small", "mlx/a", local=True)
B = Candidate("cloud", "gemini/b", local=False)
C = Candidate("embedded", "mlx/c", local=True)

UNFIT = Problem("not downloaded", fix="llm tiered download mlx/a")
BROKEN = Problem("wrong options")
DOWN = Problem("MLX failed", cools=True)
BUSY = Problem("overloaded", transient=True, cools=True)


@dataclass
class World:
    """Everything outside the chain: what checks and tries meet, and the time.

    `tries` holds what each try of a model meets, in order; without one it answers.
    """

    checks: dict[str, Problem] = field(default_factory=dict)
    tries: dict[str, list[Problem | None]] = field(default_factory=dict)
    seconds_per_try: float = 0.0
    now: float = 100.0
    steps: list[Step] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cooldowns = Cooldowns(self.clock)

    def clock(self) -> float:
        """The time, in seconds."""
        return self.now

    def answer(self, step: Step) -> Problem | None:
        """Do what the chain asks for."""
        self.steps.append(step)
        if isinstance(step, Wait):
            self.now += step.seconds
            return None
        if isinstance(step, Check):
            return self.checks.get(step.candidate.model)
        self.now += self.seconds_per_try
        script = self.tries.get(step.candidate.model)
        return script.pop(0) if script else None

    def run(self, *candidates: Candidate) -> Candidate:
        """Drive one run of the chain to its end."""
        self.steps, self.attempts = [], []
        chain = run(candidates, self.cooldowns, self.attempts, self.clock)
        reply: Problem | None = None
        while True:
            try:
                step = chain.send(reply)
            except StopIteration as end:
                answered: Candidate = end.value
                return answered
            reply = self.answer(step)


def _outcomes(attempts: Sequence[Attempt]) -> list[tuple[str, str, str | None]]:
    return [(attempt.model, attempt.outcome, attempt.reason) for attempt in attempts]


def test_first_model_answers() -> None:
    """A model that can answer is checked, tried once, and no other is looked at."""
    world = World()
    assert world.run(A, B, C) is A
    assert world.steps == [Check(A), Try(A)]
    assert world.attempts == [Attempt("small", "mlx/a", "ok", None, 0)]


def test_unfit_model_is_skipped() -> None:
    """A model that is known not to work is not tried; the next one is."""
    world = World(checks={A.model: UNFIT})
    assert world.run(A, B, C) is B
    assert world.steps == [Check(A), Check(B), Try(B)]
    assert _outcomes(world.attempts) == [
        ("mlx/a", "skipped", "not downloaded"),
        ("gemini/b", "ok", None),
    ]


def test_failing_model_is_followed_by_the_next() -> None:
    """A model that fails is recorded as failed, and the next one answers."""
    world = World(tries={A.model: [BROKEN]})
    assert world.run(A, B, C) is B
    assert world.steps == [Check(A), Try(A), Check(B), Try(B)]
    assert _outcomes(world.attempts) == [
        ("mlx/a", "failed", "wrong options"),
        ("gemini/b", "ok", None),
    ]


def test_attempts_are_recorded_as_they_end() -> None:
    """What was attempted can be seen while the chain is still running."""
    attempts: list[Attempt] = []
    chain = run([A, B], Cooldowns(), attempts)
    assert next(chain) == Check(A)
    assert attempts == []
    assert chain.send(UNFIT) == Check(B)
    assert _outcomes(attempts) == [("mlx/a", "skipped", "not downloaded")]
    assert chain.send(None) == Try(B)
    assert len(attempts) == 1
    with pytest.raises(StopIteration) as end:
        chain.send(None)
    assert end.value.value is B
    assert len(attempts) == 2


def test_attempt_as_it_stands_in_the_log() -> None:
    """An attempt is logged with these keys and no others."""
    assert Attempt("small", "mlx/a", "failed", "overloaded", 12).as_dict() == {
        "tier": "small",
        "model": "mlx/a",
        "outcome": "failed",
        "reason": "overloaded",
        "ms": 12,
    }


def test_nothing_answers() -> None:
    """If nothing answers, the error lists every attempt with its reason and what mends it."""
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
    """A problem that passes by itself is retried after 1 and 4 seconds, and not again."""
    world = World(tries={A.model: [BUSY] * 5})
    assert world.run(A, B) is B
    assert world.steps == [
        *(Check(A), Try(A), Wait(1.0), Try(A), Wait(4.0), Try(A)),
        *(Check(B), Try(B)),
    ]
    assert _outcomes(world.attempts) == [
        ("mlx/a", "failed", "overloaded"),
        ("gemini/b", "ok", None),
    ]


@pytest.mark.parametrize(
    ("problems", "waited"), [([BUSY, None], [1.0]), ([BUSY, BUSY, None], [1.0, 4.0])]
)
def test_retry_that_helps(problems: list[Problem | None], waited: list[float]) -> None:
    """A model that answers after a retry has one attempt, and it is ok."""
    world = World(tries={A.model: problems})
    assert world.run(A, B) is A
    assert [step.seconds for step in world.steps if isinstance(step, Wait)] == waited
    assert _outcomes(world.attempts) == [("mlx/a", "ok", None)]


def test_retry_that_meets_another_problem() -> None:
    """A retry that meets a lasting problem is the last one, and that problem is told."""
    world = World(tries={A.model: [BUSY, BROKEN]})
    assert world.run(A, B) is B
    assert world.steps[:4] == [Check(A), Try(A), Wait(1.0), Try(A)]
    assert world.attempts[0].reason == "wrong options"


@pytest.mark.parametrize("problem", [BROKEN, DOWN])
def test_lasting_problem_is_not_retried(problem: Problem) -> None:
    """A problem that does not pass by itself is met once."""
    world = World(tries={A.model: [problem]})
    world.run(A, B)
    assert world.steps.count(Try(A)) == 1
    assert not any(isinstance(step, Wait) for step in world.steps)


def test_skip_is_not_retried() -> None:
    """A model that is skipped is checked once, even if the reason passes by itself."""
    world = World(checks={A.model: BUSY})
    world.run(A, B)
    assert world.steps == [Check(A), Check(B), Try(B)]


# Time


@pytest.mark.parametrize(
    ("problems", "milliseconds"),
    [([], 250), ([BROKEN], 250), ([BUSY, None], 1500), ([BUSY] * 3, 5750)],
)
def test_milliseconds_of_an_attempt(problems: list[Problem | None], milliseconds: int) -> None:
    """An attempt's time is that of all its tries and of the waiting between them."""
    world = World(tries={A.model: problems}, seconds_per_try=0.25)
    world.run(A, B)
    assert world.attempts[0].ms == milliseconds


def test_each_attempt_has_its_own_time() -> None:
    """The time of the attempts before does not count."""
    world = World(tries={A.model: [BROKEN]}, seconds_per_try=0.25)
    world.run(A, B)
    assert [attempt.ms for attempt in world.attempts] == [250, 250]


# Cooling down


def test_failed_model_cools_down() -> None:
    """A model that will fail again is left alone for a minute, with the seconds left."""
    world = World(tries={A.model: [DOWN]})
    world.run(A, B)
    world.now += 15
    assert world.run(A, B) is B
    assert world.steps == [Check(B), Try(B)]
    assert _outcomes(world.attempts)[0] == (
        "mlx/a",
        "skipped",
        "cooling down for 45 s more after: MLX failed",
    )


def test_cooldown_runs_out() -> None:
    """After its minute the model is asked again, not a second earlier."""
    world = World(tries={A.model: [DOWN]})
    world.run(A, B)
    world.now += COOLDOWN - 1
    assert world.run(A, B) is B
    world.now += 1
    assert world.run(A, B) is A


def test_skip_of_a_cooling_model_does_not_prolong_it() -> None:
    """Only a failure starts the minute; asking meanwhile does not start it again."""
    world = World(tries={A.model: [DOWN]})
    world.run(A, B)
    for _ in range(3):
        world.now += 20
        answered = world.run(A, B)
    assert answered is A


def test_retries_that_help_start_no_cooldown() -> None:
    """A model that answered in the end is asked first again."""
    world = World(tries={A.model: [BUSY, BUSY, None]})
    assert world.run(A, B) is A
    assert world.run(A, B) is A


def test_retries_in_vain_start_a_cooldown() -> None:
    """A model that is overloaded for all tries is left alone."""
    world = World(tries={A.model: [BUSY] * 3})
    assert world.run(A, B) is B
    assert world.cooldowns.check(A.model) is not None


def test_problem_of_the_request_starts_no_cooldown() -> None:
    """A problem that only this request has does not keep the next one from the model."""
    world = World(tries={A.model: [BROKEN]})
    assert world.run(A, B) is B
    assert world.run(A, B) is A


def test_skipped_model_does_not_cool_down() -> None:
    """A model that was only checked can be asked as soon as the check finds nothing."""
    world = World(checks={A.model: DOWN})
    assert world.run(A, B) is B
    world.checks.clear()
    assert world.run(A, B) is A


def test_cooldown_is_of_one_model() -> None:
    """The other models are not left alone, and a failed run cools each model that failed."""
    world = World(tries={A.model: [DOWN], B.model: [BROKEN]})
    assert world.run(A, B, C) is C
    assert world.cooldowns.check(A.model) is not None
    assert world.cooldowns.check(B.model) is None
    assert world.cooldowns.check(C.model) is None


def test_last_model_cools_down_too() -> None:
    """A model cools down even if no other is left: the next call must not wait for it."""
    world = World(tries={A.model: [DOWN]})
    with pytest.raises(AllTiersFailed):
        world.run(A)
    with pytest.raises(AllTiersFailed, match="cooling down for 60 s more after: MLX failed"):
        world.run(A)
    assert world.steps == []


def test_model_that_never_failed_is_ready() -> None:
    """Nothing cools down before it failed, even at the beginning of time."""
    assert Cooldowns(lambda: 0.0).check("mlx/a") is None
