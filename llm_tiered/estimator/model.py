"""Measures of a text → how hard a prompt is: a logistic model, and the rules around it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from math import exp, floor, isfinite, log2
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .conversation import THIN, Turn, deciding_turn, text_of, user_texts
from .features import FEATURES, TextMeasures, measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import llm

LOWEST, MEDIUM, HIGHEST = 1, 5, 10

COEFFICIENTS = Path(__file__).with_name("coefficients.json")
"""The coefficients that ship with the package, fitted by `python -m tests.estimator.fit`."""

COUNTED = ("length", "quantities", "negations")
"""Features that are given as reasons where there is much of them."""

MAX_TURNS = 20
"""Number of the user's turns that are measured, the latest ones."""

NOTABLE_STEPS = 0.4
"""Steps of complexity from which a feature is given as a reason."""

LONG_CONTEXT = 4_000
"""Characters above which the length of the context adds complexity."""


class FeatureWeight(NamedTuple):
    """The role of one feature in the model.

    `mean` and `spread` (the standard deviation) are those of the fitted prompts; `weight` is
    log-odds per standard deviation.
    """

    mean: float
    spread: float
    weight: float


class Coefficients(NamedTuple):
    """The fitted model.

    Complexity is linear in the log-odds: `medium` is complexity 5, and each `step` from there is
    one more or one less.
    """

    intercept: float
    medium: float
    step: float
    features: tuple[FeatureWeight, ...]

    @classmethod
    def load(cls, path: Path = COEFFICIENTS) -> Coefficients:
        """Read a file of coefficients. Raises OSError, or ValueError if the file is damaged."""
        try:
            content: dict[str, Any] = json.loads(path.read_text("utf-8"))
            if content["features"] and set(content["features"]) != set(FEATURES):
                raise ValueError("they are of another version, which looked at other features")
            features = tuple(FeatureWeight(**content["features"][name]) for name in FEATURES)
            loaded = cls(content["intercept"], content["medium"], content["step"], features)
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a file of coefficients: {error!r}") from None
        numbers = (*loaded[:3], *(number for feature in features for number in feature))
        if not all(isinstance(number, (int, float)) and isfinite(number) for number in numbers):
            raise ValueError("not a file of coefficients: some of them are not numbers")
        if min(loaded.step, *(feature.spread for feature in features)) <= 0:
            raise ValueError("not a file of coefficients: a step or a spread is not above zero")
        return loaded

    def as_dict(self) -> dict[str, Any]:
        """Return the content of a file that `load` reads."""
        features = dict(zip(FEATURES, self.features, strict=True))
        return {
            "intercept": self.intercept,
            "medium": self.medium,
            "step": self.step,
            "features": {name: feature._asdict() for name, feature in features.items()},
        }

    def standardised(self, values: Sequence[float]) -> list[float]:
        """Return each feature's distance from its mean, in standard deviations."""
        return [
            (value - feature.mean) / feature.spread
            for feature, value in zip(self.features, values, strict=True)
        ]

    def contributions(self, values: Sequence[float]) -> list[float]:
        """Return what each feature adds to the log-odds."""
        return [
            feature.weight * deviation
            for feature, deviation in zip(self.features, self.standardised(values), strict=True)
        ]

    def log_odds(self, measures: TextMeasures) -> float:
        """Return the log-odds that a small model answers wrongly.

        The thinner the evidence, the closer they are to medium.
        """
        fitted = self.intercept + sum(self.contributions(measures.values))
        fitted += self.step * measures.steps
        return self.medium + measures.evidence * (fitted - self.medium)

    def complexity(self, log_odds: float) -> int:
        """Return the complexity for log-odds, 1 to 10."""
        distance = (log_odds - self.medium) / self.step
        return min(HIGHEST, max(LOWEST, floor(MEDIUM + distance + 0.5)))


@cache
def shipped() -> Coefficients:
    """Return the coefficients that ship with the package; the file is read once."""
    return Coefficients.load()


@dataclass(frozen=True)
class Estimate:
    """How hard a prompt is, judged from its text and from what comes with it.

    `score` is the probability, 0 to 1, that a small model answers wrongly; a prompt with a higher
    score never has a lower complexity. `complexity` is 1 to 10, and 5 where there is too little to
    judge by. `confidence` is 0 to 1: 0 with nothing to judge by, and higher the further the score
    is from the middle. `reasons` are the features that mattered most, in plain words.
    """

    score: float
    complexity: int
    confidence: float
    reasons: tuple[str, ...]


def estimate(  # noqa: PLR0913 - all that can come with a prompt
    prompt: str,
    *,
    system: str | None = None,
    messages: Sequence[llm.Message] | None = None,
    attachments: int = 0,
    tools: int = 0,
    schema: bool = False,
    coefficients: Coefficients | None = None,
) -> Estimate:
    """Estimate how hard a prompt is, without calling any model.

    `messages` is the conversation so far, with or without the prompt at its end: the user's earlier
    messages are measured like the prompt (see `deciding_turn`). Only the length counts of `system`
    and of all other messages. `attachments` and `tools` are numbers; they and a `schema` for the
    answer make a prompt harder. `coefficients` default to those that ship with the package.
    """
    model = coefficients or shipped()
    history = messages or ()
    texts = user_texts(prompt, history)
    turn = deciding_turn([_turn(measure(text), model) for text in texts[-MAX_TURNS:]])
    others = [text_of(message) for message in history if message.role != "user"]
    characters = sum(map(len, (*texts, *others, system or "")))
    extra = extras(characters, attachments, tools, schema=schema)
    log_odds = turn.log_odds + model.step * sum(steps for steps, _ in extra)
    # Rounded, so that the last bit of a platform's logarithm makes no difference.
    log_odds = round(log_odds, 6)
    distance = (log_odds - model.medium) / model.step
    return Estimate(
        score=round(1 / (1 + exp(-log_odds)), 10),
        complexity=model.complexity(log_odds),
        confidence=round(turn.evidence * (0.4 + 0.6 * min(1.0, abs(distance) / 4)), 3),
        reasons=(*(reason for _, reason in extra), *turn.reasons),
    )


def extras(
    characters: int, attachments: int, tools: int, *, schema: bool
) -> list[tuple[float, str]]:
    """Return the steps of complexity for what comes with a prompt, each with its reason.

    The steps were chosen by hand: no prompt in the data that the model is fitted on comes with
    anything.
    """
    extra = []
    if attachments > 0:
        extra.append((min(2.0, 0.5 + 0.5 * attachments), f"attachments ({attachments})"))
    if tools > 0:
        extra.append((min(2.0, 0.75 + 0.25 * tools), f"tools ({tools})"))
    if schema:
        extra.append((1.0, "a schema for the answer"))
    if characters > LONG_CONTEXT:
        steps = min(3.0, 0.5 * log2(characters / LONG_CONTEXT))
        extra.append((steps, f"a long context ({characters:,} characters)"))
    return extra


REASONS = {
    "length": "long ({words} words)",
    "quantities": "numbers ({quantities})",
    "negations": "negations ({negations})",
    "open": "no options to choose from",
    "program": "asks for a program",
}
"""The reason that each feature gives, with the counts that are put in."""


def _turn(measures: TextMeasures, model: Coefficients) -> Turn:
    reasons = tuple(_reasons(measures, model))
    return Turn(model.log_odds(measures), measures.evidence, reasons)


def _reasons(measures: TextMeasures, model: Coefficients) -> Iterator[str]:
    """Yield the reasons that mattered, in plain words, the heaviest first."""
    if measures.talks:
        yield "ignores what the prompt says about its own difficulty"
    if measures.evidence < THIN:
        yield "too little to judge by"
        return
    yield from ("code" if ask == "code" else f"asks for {ask}" for ask in measures.asks)
    contributions = model.contributions(measures.values)
    parts = dict(zip(FEATURES, contributions, strict=True))
    if parts["length"] < -NOTABLE_STEPS * model.step:
        words = measures.counts["words"]
        yield f"short ({words} word{'s' if words > 1 else ''})"
    if parts["open"] < -NOTABLE_STEPS * model.step:
        yield f"options to choose from ({measures.counts['options']})"
    for name in sorted(COUNTED, key=lambda name: -parts[name]):
        if parts[name] > NOTABLE_STEPS * model.step:
            yield REASONS[name].format_map(measures.counts)
