"""Features → how hard a prompt is: a logistic model, and the rules around it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from math import exp, floor, isfinite, log2
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .conversation import THIN, Turn, hardest, text_of, user_texts
from .features import FEATURES, Measured, measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import llm

LOWEST, MEDIUM, HIGHEST = 1, 5, 10

COEFFICIENTS = Path(__file__).with_name("coefficients.json")

CLIP = 4.0
"""Spreads from the mean beyond which a feature says nothing more."""

TURNS = 20
"""Turns of a conversation that are looked at, the last ones."""

TELLING = 0.4
"""Steps of complexity from which a feature is told as a reason, at most SHOWN of them."""

SHOWN = 4

TALK = 0.9
"""Steps of complexity by which talk about the difficulty moves a prompt at the most."""

CONTEXT = 4_000
"""Characters above which a context counts as long."""


class Weight(NamedTuple):
    """One feature's part in the model, in log-odds for each spread from its mean."""

    mean: float
    spread: float
    weight: float


class Coefficients(NamedTuple):
    """The fitted model.

    Its log-odds become a complexity on a straight line: `medium` is complexity 5, and each
    `step` from there is one more or one less.
    """

    intercept: float
    medium: float
    step: float
    features: tuple[Weight, ...]

    @classmethod
    def load(cls, path: Path = COEFFICIENTS) -> Coefficients:
        """Read a file of coefficients. Raises OSError, and ValueError if it is damaged."""
        try:
            content: dict[str, Any] = json.loads(path.read_text("utf-8"))
            weights = tuple(Weight(**content["features"][name]) for name in FEATURES)
            found = cls(content["intercept"], content["medium"], content["step"], weights)
        except (TypeError, KeyError) as error:
            raise ValueError(f"no coefficients: {error!r}") from None
        numbers = (*found[:3], *(number for weight in weights for number in weight))
        scales = (found.step, *(weight.spread for weight in weights))
        if not all(isinstance(number, (int, float)) and isfinite(number) for number in numbers):
            raise ValueError("no coefficients: not all of them are numbers")
        if min(scales) <= 0:
            raise ValueError("no coefficients: a step or a spread is not above zero")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Ready for a file that `load` reads."""
        features = dict(zip(FEATURES, self.features, strict=True))
        return {
            "intercept": self.intercept,
            "medium": self.medium,
            "step": self.step,
            "features": {name: weight._asdict() for name, weight in features.items()},
        }

    def standard(self, values: Sequence[float]) -> list[float]:
        """Each feature's distance from its mean, in spreads."""
        return [
            min(CLIP, max(-CLIP, (value - feature.mean) / feature.spread))
            for feature, value in zip(self.features, values, strict=True)
        ]

    def parts(self, values: Sequence[float]) -> list[float]:
        """What each feature adds to the log-odds."""
        standard = self.standard(values)
        return [feature.weight * z for feature, z in zip(self.features, standard, strict=True)]

    def log_odds(self, measured: Measured) -> float:
        """The log-odds that a small model gets it wrong, nearer to medium on thin evidence.

        What a text says about its own difficulty moves it by no more than TALK.
        """
        log_odds = self._log_odds(measured)
        if measured.rest is None or measured.rest.evidence < THIN:
            return log_odds
        rest, most = self._log_odds(measured.rest), TALK * self.step
        return min(rest + most, max(rest - most, log_odds))

    def complexity(self, log_odds: float) -> int:
        """The complexity for log-odds, 1 to 10."""
        distance = (log_odds - self.medium) / self.step
        return min(HIGHEST, max(LOWEST, floor(MEDIUM + distance + 0.5)))

    def _log_odds(self, measured: Measured) -> float:
        fitted = self.intercept + sum(self.parts(measured.values))
        asked = self.step * sum(steps for steps, _ in measured.intents)
        return self.medium + measured.evidence * (fitted + asked - self.medium)


@cache
def shipped() -> Coefficients:
    """The coefficients that come with the package, read once."""
    return Coefficients.load()


@dataclass(frozen=True)
class Estimate:
    """How hard a prompt is, as far as its text and what comes with it say.

    `score` is the chance, 0 to 1, that a small model gets it wrong; of two prompts the one with
    the higher score never has the lower complexity. `complexity` is 1 to 10, and 5 where there
    is too little to go by. `confidence` is 0 to 1: 0 with nothing to go by, and the higher the
    further the score is from the middle. `reasons` are what mattered most, in plain words.
    """

    score: float
    complexity: int
    confidence: float
    reasons: tuple[str, ...]


def estimate(  # noqa: PLR0913  # each is something else that comes with a prompt
    prompt: str,
    *,
    system: str | None = None,
    messages: Sequence[llm.Message] | None = None,
    attachments: int = 0,
    tools: int = 0,
    schema: bool = False,
    coefficients: Coefficients | None = None,
) -> Estimate:
    """Estimate how hard a prompt is, without asking any model.

    `messages` is the conversation so far, with or without the prompt at its end. What the user
    said earlier counts like the prompt itself: up at once, down only after two easier turns. Of
    `system` and of everybody else's messages only the length counts. What can't be seen in the
    text makes it harder: the number of `attachments`, the number of `tools` on offer, and
    whether the answer has to follow a `schema`. `coefficients` are those of `current`, or those
    that come with the package.
    """
    model = coefficients or shipped()
    said = messages or ()
    texts = user_texts(prompt, said)
    turn = hardest([read(measure(text), model) for text in texts[-TURNS:]])
    others = [text_of(message) for message in said if message.role != "user"]
    characters = sum(map(len, (*texts, *others, system or "")))
    loads = burdens(characters, attachments, tools, schema=schema)
    log_odds = turn.log_odds + model.step * sum(steps for steps, _ in loads)
    # Rounded, so that the last bit of a platform's logarithm decides nothing.
    log_odds = round(log_odds, 6)
    distance = (log_odds - model.medium) / model.step
    return Estimate(
        score=round(1 / (1 + exp(-log_odds)), 10),
        complexity=model.complexity(log_odds),
        confidence=round(turn.evidence * (0.4 + 0.6 * min(1.0, abs(distance) / 4)), 3),
        reasons=(*(reason for _, reason in loads), *turn.reasons),
    )


def read(measured: Measured, model: Coefficients) -> Turn:
    """What one text says by itself."""
    return Turn(model.log_odds(measured), measured.evidence, tuple(_reasons(measured, model)))


def burdens(
    characters: int, attachments: int, tools: int, *, schema: bool
) -> list[tuple[float, str]]:
    """The steps of complexity for what comes with a prompt, each with its reason.

    Set by hand, like those of the intents: the data that the rest is fitted on has none of it.
    """
    loads = []
    if attachments > 0:
        loads.append((min(2.0, 0.5 + 0.5 * attachments), f"attachments ({attachments})"))
    if tools > 0:
        loads.append((min(2.0, 0.75 + 0.25 * tools), f"tools ({tools})"))
    if schema:
        loads.append((1.0, "an answer in a schema"))
    if characters > CONTEXT:
        steps = min(3.0, 0.5 * log2(characters / CONTEXT))
        loads.append((steps, f"a long context ({characters:,} characters)"))
    return loads


REASONS = {
    "length": "long ({length} words)",
    "numbers": "numbers ({numbers})",
    "calculation": "calculations ({calculation} signs)",
    "notation": "formulas",
    "variables": "variables",
    "code": "code",
    "parts": "several parts ({parts})",
    "quotations": "quotations ({quotations})",
    "brackets": "brackets ({brackets})",
    "mathematics": "mathematical words ({mathematics})",
    "science": "scientific words ({science})",
    "conditions": "conditions ({conditions})",
    "negations": "negations ({negations})",
    "explanation": "asks how or why",
}


def _reasons(measured: Measured, model: Coefficients) -> Iterator[str]:
    """What mattered most, in plain words, the weightiest first."""
    if measured.claims:
        yield "what it says about its own difficulty is left out"
    if measured.evidence < THIN:
        yield "too little to go by"
        return
    yield from (reason for _, reason in measured.intents)
    parts = dict(zip(FEATURES, model.parts(measured.values), strict=True))
    if parts["length"] < -TELLING * model.step:
        yield f"short ({measured.counts['length']} words)"
    for name in sorted(parts, key=lambda name: -parts[name])[:SHOWN]:
        if parts[name] > TELLING * model.step:
            yield REASONS[name].format_map(measured.counts)
