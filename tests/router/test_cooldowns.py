"""When a model that failed is left alone, and for how long."""

from __future__ import annotations

import pytest

from llm_tiered.errors import AllTiersFailed
from llm_tiered.router.attempts import Check, Try
from llm_tiered.router.cooldowns import (
    COOLDOWN,
    KEY_COOLDOWN,
    LONGEST_COOLDOWN,
    PATIENCE,
    Cooldowns,
)
from llm_tiered.router.problem import Problem
from tests.router.chain import BROKEN, BUSY, DOWN, A, B, C, World, asks_to_wait, outcomes


def test_failed_model_cools_down() -> None:
    """A model that would fail again is left alone for a minute; the reason says how long."""
    world = World(tries={A.model: [DOWN]})
    world.run(A, B)
    world.now += 15
    assert world.run(A, B) is B
    assert world.steps == [Check(B), Try(B)]
    assert outcomes(world.attempts)[0] == (
        "mlx/a",
        "skipped",
        "cooling down for 45 s more after: MLX failed",
    )


def test_cooldown_runs_out() -> None:
    """After its minute the model is tried again, and not a second earlier."""
    world = World(tries={A.model: [DOWN]})
    world.run(A, B)
    world.now += COOLDOWN - 1
    assert world.run(A, B) is B
    world.now += 1
    assert world.run(A, B) is A


def test_skip_of_a_cooling_model_does_not_prolong_it() -> None:
    """Only a failure starts the minute; being skipped does not restart it."""
    world = World(tries={A.model: [DOWN]})
    world.run(A, B)
    for _ in range(3):
        world.now += 20
        answered = world.run(A, B)
    assert answered is A


def test_retries_that_help_start_no_cooldown() -> None:
    """A model that answered in the end is tried first the next time."""
    world = World(tries={A.model: [BUSY, BUSY, None]})
    assert world.run(A, B) is A
    assert world.run(A, B) is A


def test_failing_retries_start_a_cooldown() -> None:
    """A model that is overloaded on every try is left alone."""
    world = World(tries={A.model: [BUSY] * 3})
    assert world.run(A, B) is B
    assert world.cooldowns.check(A.model) is not None


def test_problem_of_the_request_starts_no_cooldown() -> None:
    """A problem with this request alone does not keep the next one from the model."""
    world = World(tries={A.model: [BROKEN]})
    assert world.run(A, B) is B
    assert world.run(A, B) is A


def test_skipped_model_does_not_cool_down() -> None:
    """A model that was only checked is tried as soon as the check passes."""
    world = World(checks={A.model: DOWN})
    assert world.run(A, B) is B
    world.checks.clear()
    assert world.run(A, B) is A


def test_cooldown_is_of_one_model() -> None:
    """Each model that failed in a run cools down; the others do not."""
    world = World(tries={A.model: [DOWN], B.model: [BROKEN]})
    assert world.run(A, B, C) is C
    assert world.cooldowns.check(A.model) is not None
    assert world.cooldowns.check(B.model) is None
    assert world.cooldowns.check(C.model) is None


@pytest.mark.parametrize(
    ("told", "seconds"),
    [(36.5, 36.5), (7200.0, 7200.0), (10**9, LONGEST_COOLDOWN), (2.0, COOLDOWN)],
)
def test_cooldown_as_told(told: float, seconds: float) -> None:
    """A model is left alone as long as it asks, if no prompt would wait that long."""
    world = World(tries={A.model: [asks_to_wait(told)] * (1 if told > PATIENCE else 3)})
    world.run(A, B)
    start = world.now
    world.now = start + seconds - 0.1
    assert world.run(A, B) is B
    world.now = start + seconds
    assert world.run(A, B) is A


def test_cooldown_of_a_key() -> None:
    """A model that refused a key is left alone with that key, and asked with another one."""
    refused = Problem("wrong key", fix="set it", cools_down=True, refuses_key=True)
    world = World(tries={A.model: [refused, refused]}, keys={A.model: "first", B.model: "first"})
    assert world.run(A, B) is B
    world.now += KEY_COOLDOWN - 1
    assert world.run(A, B) is B
    reason = "cooling down for 1 s more after: wrong key"
    assert world.cooldowns.check(A.model, world.keys.get) == Problem(reason, "set it")
    world.keys[A.model] = "second"
    assert world.run(A, B) is B
    world.now += 1
    world.keys[A.model] = "first"
    assert world.run(A, B) is A


def test_last_model_cools_down_too() -> None:
    """A model cools down even if it is the last: the next request must not wait for it."""
    world = World(tries={A.model: [DOWN]})
    with pytest.raises(AllTiersFailed):
        world.run(A)
    with pytest.raises(AllTiersFailed, match="cooling down for 60 s more after: MLX failed"):
        world.run(A)
    assert world.steps == []


def test_model_that_never_failed_is_ready() -> None:
    """Nothing cools down before its first failure, even when the clock starts at zero."""
    assert Cooldowns(lambda: 0.0).check("mlx/a") is None


def test_model_that_answers_others_does_not_cool_down() -> None:
    """If a model answers other requests meanwhile, a passing problem is that of one request."""
    cooldowns = World().cooldowns
    began = cooldowns.now() - 1
    cooldowns.answered(A.model)
    cooldowns.start(A.model, BUSY, since=began)
    assert cooldowns.check(A.model) is None
    for problem in (DOWN, asks_to_wait(36.5)):
        cooldowns.start(A.model, problem, since=began)
        assert cooldowns.check(A.model) is not None


def test_answer_ends_the_cooldown() -> None:
    """An answer to another request ends the cooldown after a passing problem, and no other."""
    cooldowns = World().cooldowns
    for problem, goes_on in ((BUSY, False), (DOWN, True), (asks_to_wait(36.5), True)):
        cooldowns.start(A.model, problem)
        cooldowns.answered(A.model)
        assert (cooldowns.check(A.model) is not None) is goes_on


def test_earlier_answer_does_not_prevent_the_cooldown() -> None:
    """A model that answered before the request began may be down since then."""
    world = World(tries={A.model: [None, BUSY, BUSY, BUSY]})
    assert world.run(A, B) is A
    world.now += 1
    assert world.run(A, B) is B
    assert world.cooldowns.check(A.model) is not None
