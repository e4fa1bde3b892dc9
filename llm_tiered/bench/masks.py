"""The time of a JSON Schema's token mask, token by token."""

from __future__ import annotations

import json
import time
from statistics import fmean, quantiles
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from ..mlx import device
from ..mlx.tokens import grammar_tokenizer, structured
from .figures import Figure
from .synthetic import make_tokenizer

if TYPE_CHECKING:
    from .home import Subject

# The number of logits of Qwen 2.5 and 3.
WIDE = 151_936

# No answer reaches its end: one that ended early would be measured over fewer tokens.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "exercises": {
            "type": "array",
            "minItems": 10_000,
            "items": {
                "type": "object",
                "properties": {
                    "title": {"type": "string", "minLength": 3, "maxLength": 60},
                    "key": {"enum": ["C", "G", "D", "A", "E", "F", "Bb", "Eb"]},
                    "minor": {"type": "boolean"},
                    "difficulty": {"type": "integer", "minimum": 1, "maximum": 10},
                    "tempo": {"type": ["number", "null"]},
                    "notes": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                },
                "required": ["title", "key", "minor", "difficulty", "tempo", "notes"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["exercises"],
    "additionalProperties": False,
}

# The first items of such an answer.
EXERCISE = {
    "title": "Walking up and down the major scale",
    "key": "Bb",
    "minor": False,
    "difficulty": 3,
    "tempo": 92.5,
    "notes": ["Bb", "C", "D", "Eb", "F", "G", "A", "Bb", "quarter notes", "slowly at first"],
}
ANSWER = json.dumps({"exercises": [EXERCISE] * 3}, separators=(",", ":"))[: -len("]}")]


def of_model(subject: Subject, tokenizer: Any, runs: int) -> list[Figure]:
    """Measure the mask with a model's own tokenizer and vocabulary."""
    config = json.loads((subject.folder / "config.json").read_text("utf-8"))
    width = config.get("vocab_size") or len(tokenizer)
    return _figures(subject.model_id, tokenizer, width, runs)


def of_wide_model(runs: int) -> list[Figure]:
    """Measure the mask with a synthetic tokenizer of 151,936 tokens."""
    from mlx_lm.tokenizer_utils import TokenizerWrapper

    return _figures(None, TokenizerWrapper(make_tokenizer(WIDE)), WIDE, runs)


def _figures(model: str | None, tokenizer: Any, width: int, runs: int) -> list[Figure]:
    times = device.run_apart(lambda: _microseconds(tokenizer, width, runs))
    note = f"{width:,} wide"
    return [
        Figure("schema", "mask_mean", "µs", fmean(times), model, note),
        Figure("schema", "mask_p99", "µs", quantiles(times, n=100)[-1], model, note),
    ]


def _microseconds(tokenizer: Any, width: int, runs: int) -> list[float]:
    """Return the time of the mask for each token of the answer."""
    import mlx.core as mx

    view = grammar_tokenizer.make_tokenizer(tokenizer, width)
    answer = [mx.array([token]) for token in tokenizer.encode(ANSWER, add_special_tokens=False)]
    logits = mx.zeros((1, width))
    mx.eval(logits, answer)
    times = []
    for _ in range(runs):
        constraint = structured.Constraint(structured.compile_schema(SCHEMA, view))
        # The mask before the first token does not depend on the token passed with it.
        for token in [answer[0], *answer]:
            started = time.perf_counter()
            mx.eval(constraint(token, logits))
            times.append((time.perf_counter() - started) * 1e6)
        if constraint.error:
            raise EngineError(
                f"the mask rejects an answer that fits its schema: {constraint.error}"
            )
    return times
