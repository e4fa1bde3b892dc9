"""Features → how hard a prompt is: a logistic model, and the rules around it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from math import exp, floor, log2
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

CONTEXT = 4_000
"""Characters above which a context counts as long."""


class Weight(NamedTuple):
    """One feature's part in the model, in log-odds for each spread from its mean."""

    mean: float
    spread: float
    weight: float


@dataclass(frozen=True)
class Coefficients:
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
        """Read a file that `fit` wrote."""
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        weights = tuple(Weight(**content["features"][name]) for name in FEATURES)
        return cls(content["intercept"], content["medium"], content["step"], weights)

    def parts(self, values: Sequence[float]) -> list[float]:
        """What each feature adds to the log-odds."""
        return [
            feature.weight * min(CLIP, max(-CLIP, (value - feature.mean) / feature.spread))
            for feature, value in zip(self.features, values, strict=True)
        ]

    def log_odds(self, measured: Measured) -> float:
        """The log-odds that a small model gets it wrong, nearer to medium on thin evidence."""
        fitted = self.intercept + sum(self.parts(measured.values))
        asked = self.step * sum(steps for steps, _ in measured.intents)
        return self.medium + measured.evidence * (fitted + asked - self.medium)


@cache
def coefficients() -> Coefficients:
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
) -> Estimate:
    """Estimate how hard a prompt is, without asking any model.

    `messages` is the conversation so far, with or without the prompt at its end. What the user
    said earlier counts like the prompt itself: up at once, down only after two easier turns. Of
    `system` and of everybody else's messages only the length counts. What can't be seen in the
    text makes it harder: the number of `attachments`, the number of `tools` on offer, and
    whether the answer has to follow a `schema`.
    """
    model = coefficients()
    said = messages or ()
    texts = user_texts(prompt, said)
    turn = hardest([read(measure(text), model) for text in texts[-TURNS:]])
    others = [text_of(message) for message in said if message.role != "user"]
    characters = sum(map(len, (*texts, *others, system or "")))
    loads = _loads(characters, attachments, tools, schema=schema)
    log_odds = turn.log_odds + model.step * sum(steps for steps, _ in loads)
    # Rounded, so that the last bit of a platform's logarithm decides nothing.
    log_odds = round(log_odds, 6)
    distance = (log_odds - model.medium) / model.step
    return Estimate(
        score=round(1 / (1 + exp(-log_odds)), 10),
        complexity=min(HIGHEST, max(LOWEST, floor(MEDIUM + distance + 0.5))),
        confidence=round(turn.evidence * (0.4 + 0.6 * min(1.0, abs(distance) / 4)), 3),
        reasons=(*(reason for _, reason in loads), *turn.reasons),
    )


def read(measured: Measured, model: Coefficients) -> Turn:
    """What one text says by itself."""
    return Turn(model.log_odds(measured), measured.evidence, tuple(_reasons(measured, model)))


def _loads(
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


_REASONS = {
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
            yield _REASONS[name].format_map(measured.counts)
