"""What a schema leaves no choice about is fed to the model at once, and changes no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.tokens.structured import Constraint
from tests.mlx.engine.batches import start_together
from tests.mlx.engine.client import Answer, Call, make_request
from tests.tiny_models import Family, build

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.mlx.engine.engine import Engine
    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

FAMILIES: tuple[Family, ...] = ("phi3", "qwen3_next")
QUESTION = "Let us talk about scales, about their notes, and about the chords on each of them."
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "difficulty": {"type": "integer", "minimum": 1, "maximum": 99},
        "explanation": {"enum": ["A scale is a row of notes", "A scale is something else"]},
        "minor": {"type": "boolean"},
    },
    "required": ["difficulty", "explanation", "minor"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "object": SCHEMA,
    "constant": {"const": {"difficulty": 3, "explanation": ["Hello", "there"]}},
    "list": {"type": "array", "items": SCHEMA, "minItems": 2, "maxItems": 2},
    "text": {"type": "string", "maxLength": 12},
}
FIELDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "lookup": {"prompt_lookup": True},
    "penalty": {"sampling": {"temperature": 0.0, "repetition_penalty": 1.8}},
    "kv_bits": {"kv_bits": 8},
    "seed": {"seed": 3, "sampling": {"temperature": 1.0}},
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of each family."""
    folder = tmp_path_factory.mktemp("constrained") / request.param
    return build(request.param, folder, hidden=128, context=4096)


def ask(engine: Engine, folder: Path, *turns: str, **fields: Any) -> Answer:
    """Return a model's answer to the last turn."""
    fields = {"max_tokens": 200, "schema": SCHEMA} | fields
    return Call(make_request(folder, *turns, **fields), engine).submit().answer()


def step_by_step(engine: Engine, folder: Path, *turns: str, **fields: Any) -> Answer:
    """Return the answer of a model that gets one token at a time and knows no earlier ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Constraint, "forced", lambda _: [])
        return ask(engine, folder, *turns, **({"seed": 0} | fields | {"prompt_lookup": False}))


@pytest.mark.parametrize(
    ("schema", "kind"),
    [*(("object", kind) for kind in FIELDS), *((schema, "greedy") for schema in SCHEMAS)],
)
def test_same_answers(schema: str, kind: str, engine: Engine, folder: Path) -> None:
    """Text, tokens and log-probabilities are those of one token at a time."""
    fields = FIELDS[kind] | {"schema": SCHEMAS[schema]}
    answer = ask(engine, folder, QUESTION, **fields)
    assert answer.matches(step_by_step(engine, folder, QUESTION, **fields))
    # What was kept serves the same question and the next one.
    for turns in ((QUESTION,), (QUESTION, answer.text, "Why?")):
        again = ask(engine, folder, *turns, **fields)
        assert again.matches(step_by_step(engine, folder, *turns, **fields))
        assert again.done.cached_tokens > 0 or kind == "seed"


def test_fewer_passes(engine: Engine, folder: Path) -> None:
    """A constant takes a few passes of the model, however long it is."""
    done = ask(engine, folder, QUESTION, schema=SCHEMAS["constant"]).done
    assert done.generation_tokens > 8
    assert done.passes <= 3
    assert done.mean_logprob is None or done.mean_logprob < 0


def test_forced_tokens_have_no_log_probability(engine: Engine, folder: Path) -> None:
    """An answer is as sure as the tokens that the schema left a choice about, alone or together."""
    text = {"const": "A scale is a row of notes"}
    schema = {
        "type": "object",
        "properties": {"explanation": text, "grade": {"enum": ["one", "two"]}},
        "required": ["explanation", "grade"],
        "additionalProperties": False,
    }
    alone = ask(engine, folder, QUESTION, schema=schema).done
    # It is a single token, and its logarithm is not spread over the others.
    assert alone.mean_logprob == alone.lowest_logprob == alone.decile_logprob
    assert alone.mean_logprob is not None
    assert alone.mean_logprob < 0
    assert ask(engine, folder, QUESTION, schema=text).done.mean_logprob is None
    with pytest.MonkeyPatch.context() as patch:
        start_together(patch, 2)
        calls = [
            Call(make_request(folder, QUESTION, max_tokens=200, schema=schema), engine).submit()
            for _ in range(2)
        ]
        for call in calls:
            assert call.answer().done.mean_logprob == pytest.approx(alone.mean_logprob, abs=0.01)


def test_any_limit(engine: Engine, folder: Path) -> None:
    """An answer that is cut off among forced tokens is the same, and so is what follows."""
    schema = {"const": {"difficulty": 3}}
    whole = ask(engine, folder, QUESTION, schema=schema).done.generation_tokens
    # The last token ends the turn.
    for limit in range(1, whole - 1):
        fields: dict[str, Any] = {"max_tokens": limit, "schema": schema}
        cut = ask(engine, folder, QUESTION, **fields)
        assert cut.done.generation_tokens == limit
        assert (cut.done.finish_reason, cut.done.cut_off_by) == ("length", "length")
        assert cut.matches(step_by_step(engine, folder, QUESTION, **fields))
        if limit % 5 == 0:
            turns = (QUESTION, cut.text, "Why?")
            next_turn = ask(engine, folder, *turns, schema=None, max_tokens=4)
            expected = ask(engine, folder, *turns, schema=None, max_tokens=4, seed=0)
            assert next_turn.matches(expected)


@pytest.mark.parametrize("stop", ["culty", "A scale"])
def test_stop_strings(stop: str, engine: Engine, folder: Path) -> None:
    """A stop string among forced tokens ends the answer there."""
    answer = ask(engine, folder, QUESTION, stop=(stop,))
    assert answer.matches(step_by_step(engine, folder, QUESTION, stop=(stop,)))
    assert stop not in answer.text
    assert answer.done.cut_off_by == "stop string"
    assert ask(engine, folder, QUESTION).matches(step_by_step(engine, folder, QUESTION))


def test_another_request_joins(engine: Engine, folder: Path) -> None:
    """An answer that goes on in a batch with others is the same."""
    schema = {"type": "array", "items": SCHEMA, "minItems": 2, "maxItems": 2}
    expected = step_by_step(engine, folder, QUESTION, schema=schema)
    first = Call(make_request(folder, QUESTION, schema=schema, max_tokens=200), engine).submit()
    first.wait_for_text()
    second = ask(engine, folder, "Hello", schema=schema)
    answer = first.answer()
    assert expected.text.endswith(answer.text)
    assert answer.done.generation_tokens == expected.done.generation_tokens
    assert second.text == step_by_step(engine, folder, "Hello", schema=schema).text


def test_cancelled(engine: Engine, folder: Path) -> None:
    """A cancelled answer leaves nothing that changes a later one."""
    call = Call(make_request(folder, QUESTION, schema=SCHEMA, max_tokens=200), engine).submit()
    call.wait_for_text()
    call.cancel_token.cancel()
    assert ask(engine, folder, QUESTION).matches(step_by_step(engine, folder, QUESTION))


def test_thinking(engine: Engine, tmp_path: Path, scripts: Scripts) -> None:
    """Nothing is forced while the model thinks, and JSON follows."""
    folder = build("qwen3", tmp_path, context=4096)
    scripts.say("<think>", "Hm.", "</think>", free=True)
    fields: dict[str, Any] = {"schema": {"const": {"answer": ["Paris"]}}, "thinking": True}
    call = Call(make_request(folder, QUESTION, max_tokens=100, **fields), engine).submit()
    assert call.answer().text == 'Hm.{"answer":["Paris"]}'
