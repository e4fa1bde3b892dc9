"""The models that failed recently in this process, and are left alone for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeAlias

from ..wording import span
from .problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds for which a model that keeps failing is not tried again by this process.
COOLDOWN = 60.0

# Seconds for which a key that was refused is not used again: its account may get credit.
KEY_COOLDOWN = 300.0

# The longest cooldown, in seconds, whatever a service says.
LONGEST_COOLDOWN = 25 * 3600.0

# Seconds that a request waits in all for a model that says when it will answer again.
PATIENCE = 10.0

# The id of a model → what tells the key that it would use from others.
KeyInUse: TypeAlias = "Callable[[str], str | None]"


class Cooldowns:
    """Which models are left alone, until when, and why.

    A model that refused a key is left alone only with that key.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answered: dict[str, float] = {}
        self._until: dict[str, tuple[float, Problem]] = {}
        self._refused: dict[tuple[str, str | None], tuple[float, Problem]] = {}

    def check(self, model: str, key_in_use: KeyInUse = lambda _: None) -> Problem | None:
        """Why the model is left alone for now, or None."""
        cooling = self._until.get(model)
        if cooling is None or cooling[0] <= self._clock():
            refused = any(name == model for name, _ in self._refused)
            cooling = self._refused.get((model, key_in_use(model))) if refused else None
        until, problem = cooling or (0.0, None)
        left = until - self._clock()
        if problem is None or left <= 0:
            return None
        return Problem(f"cooling down for {span(left)} more after: {problem.reason}", problem.fix)

    def now(self) -> float:
        """The time by the clock of the cooldowns, in seconds."""
        return self._clock()

    def answered(self, model: str) -> None:
        """Note that the model answers: what other requests met was theirs alone, or is over."""
        self._answered[model] = self._clock()
        _, problem = self._until.get(model, (0.0, None))
        if problem and _passes(problem):
            del self._until[model]

    def start(
        self,
        model: str,
        problem: Problem,
        key_in_use: KeyInUse = lambda _: None,
        *,
        since: float | None = None,
    ) -> None:
        """Leave the model alone for as long as it asks, if no request would wait that long.

        Else it is COOLDOWN seconds, or KEY_COOLDOWN seconds with a key that it refused. A model
        that has answered others `since` the request began is not left alone for a passing problem.
        """
        if problem.refuses_key:
            until = self._clock() + KEY_COOLDOWN
            self._refused[model, key_in_use(model)] = (until, problem)
            return
        answered = self._answered.get(model)
        answers_others = answered is not None and since is not None and answered > since
        if answers_others and _passes(problem):
            return
        asked = min(problem.retry_after or 0.0, LONGEST_COOLDOWN)
        seconds = asked if asked > PATIENCE else COOLDOWN
        self._until[model] = (self._clock() + seconds, problem)


def _passes(problem: Problem) -> bool:
    """Whether one request may have met the problem by chance."""
    return problem.transient and problem.retry_after is None
