"""In a batch, what schemas leave no choice about takes fewer passes and changes no answer."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.engine import batch, forced_runs
from llm_tiered.mlx.engine.pass_costs import PassCosts
from tests.mlx.engine.batches import start_together
from tests.mlx.engine.client import Answer, Call, make_request
from tests.tiny_models import Family, build

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llm_tiered.mlx.engine.engine import Engine

FAMILIES: tuple[Family, ...] = ("qwen2", "gemma3_text", "qwen3_next")
PARTS: tuple[dict[str, Any], ...] = (
    {"const": {"difficulty": 3, "explanation": ["Hello", "there"]}},
    {"enum": ["A scale is a row of notes", "A scale is something else"]},
    {"type": "integer", "minimum": 1, "maximum": 99},
    {"type": "string", "maxLength": 6},
    {"type": "boolean"},
)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of each family."""
    folder = tmp_path_factory.mktemp("forced") / request.param
    return build(request.param, folder, hidden=128, context=4096)


def requests(folder: Path, seed: int) -> list[Any]:
    """Return five requests of different lengths, all but one with a schema of its own."""
    draw = random.Random(seed)
    made = []
    for number in range(5):
        names = ["note", "the name of the scale", "minor"][: draw.randint(1, 3)]
        schema = {
            "type": "object",
            "properties": {name: draw.choice(PARTS) for name in names},
            "required": names,
            "additionalProperties": False,
        }
        fields: dict[str, Any] = {"schema": schema if number else None}
        if draw.random() < 0.3:
            fields["sampling"] = {"temperature": 0.0, "repetition_penalty": 1.5}
        if draw.random() < 0.3:
            fields["stop"] = (draw.choice(["scale", "Hel", '"m']),)
        question = "What is a scale? " * draw.randint(1, 9)
        limit = draw.choice([7, 20, 90])
        made.append(make_request(folder, question, max_tokens=limit, **fields))
    return made


def together(engine: Engine, calls: Sequence[Any]) -> list[Answer]:
    """Return the answers of one batch."""
    with pytest.MonkeyPatch.context() as patch:
        start_together(patch, len(calls))
        begun = [Call(request, engine).submit() for request in calls]
        return [call.answer() for call in begun]


def test_same_answers(folder: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, tokens and log-probabilities are those of one token at a time, in fewer passes."""
    widths: list[int] = []
    passes = plain = 0

    def widest(lengths: Sequence[int], _: PassCosts) -> int:
        widths.append(max(lengths))
        return max(lengths)

    for seed in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(batch, "best_width", lambda *_: 1)
            expected = together(engine, requests(folder, seed))
        monkeypatch.setattr(batch, "best_width", widest)
        answers = together(engine, requests(folder, seed))
        for answer, other in zip(answers, expected, strict=True):
            assert answer.text == other.text
            assert answer.done.generation_tokens == other.done.generation_tokens
            assert answer.done.finish_reason == other.done.finish_reason
            assert answer.done.mean_logprob == pytest.approx(other.done.mean_logprob, abs=0.01)
        passes += sum(one.done.passes for one in answers)
        plain += sum(one.done.passes for one in expected)
    # Some versions of mlx-lm can't batch linear attention.
    assert (passes < plain and max(widths) > 4) or folder.name == "qwen3_next"


def test_what_pays() -> None:
    """Rows wait for each other only where the padding costs less than the passes saved."""
    cheap, dear = PassCosts(), PassCosts()
    for rate, costs in ((0.01, cheap), (1.0, dear)):
        costs.add_prefill(100, 100 * rate)
        for _ in range(2):
            costs.add(4, 4.0)
    assert forced_runs.best_width([1, 1, 1, 9], cheap) == 9
    assert forced_runs.best_width([1, 1, 1, 9], dear) == 1
    assert forced_runs.best_width([1, 3, 3, 3], cheap) == 3
    assert forced_runs.best_width([1, 1, 1, 1], cheap) == 1
    assert forced_runs.best_width([5, 5, 5, 5], PassCosts()) == 1
