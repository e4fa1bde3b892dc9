"""Log-probabilities of the answer's tokens, in all the ways in which tokens are generated."""

from __future__ import annotations

import json
import math
import random
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.engine import solo
from llm_tiered.mlx.tokens.decoding import Text
from tests.mlx.engine.client import Call, make_request
from tests.mlx.engine.test_speculation import Oracle, without
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.mlx.engine.engine import Engine
    from llm_tiered.mlx.engine.requests import Event
    from llm_tiered.mlx.tokens.logprobs import TokenLogprob
    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

QUESTION = "Let us talk about scales."
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"minor": {"type": "boolean"}},
    "required": ["minor"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that thinks and calls tools."""
    return build("qwen3", tmp_path_factory.mktemp("logprobs") / "qwen3")


def ask(engine: Engine, *requests: Any) -> list[tuple[str, list[TokenLogprob]]]:
    """The texts of the answers to requests at the same time, and their tokens."""
    calls = [Call(request, engine) for request in requests]
    events: list[list[Event]] = [[] for _ in calls]
    for call, own in zip(calls, events, strict=True):
        call.on_event = own.append
        call.submit()
    for call in calls:
        call.answer()
    texts = [[event for event in own if isinstance(event, Text)] for own in events]
    return [
        ("".join(each.text for each in own), [token for each in own for token in each.logprobs])
        for own in texts
    ]


def text_of(tokens: list[TokenLogprob]) -> str:
    """The text that the tokens make: models may begin with a space, answers don't."""
    return bytes(byte for token in tokens for byte in token.token).decode().removeprefix(" ")


def likely(folder: Path) -> list[list[tuple[str, float]]]:
    """What mlx_lm itself finds most likely in each place of its own answer."""
    import mlx.core as mx
    import mlx_lm
    from mlx_lm.generate import generate_step

    model, tokenizer, *_ = mlx_lm.load(str(folder))
    chat = [{"role": "user", "content": QUESTION}]
    prompt = mx.array(tokenizer.apply_chat_template(chat, add_generation_prompt=True))
    rows: list[Any] = [row.tolist() for _, row in generate_step(prompt, model, max_tokens=10)]
    best = [sorted(enumerate(row), key=lambda pair: -pair[1])[:3] for row in rows]
    return [[(tokenizer.decode([token]), value) for token, value in row] for row in best]


def test_values(engine: Engine, folder: Path) -> None:
    """Alone and in a batch, each token has its own value and those of the most likely ones."""
    request = make_request(folder, QUESTION, logprobs=3)
    other = make_request(folder, "And then?", max_tokens=30)
    [(alone, tokens)] = ask(engine, request)
    (batched, same), (_, none) = ask(engine, request, other)
    assert text_of(tokens) == alone == batched == text_of(same)
    assert not none
    expected = likely(folder)
    assert len(tokens) == len(same) == len(expected) == request.max_tokens
    for found in (tokens, same):
        for token, best in zip(found, expected, strict=True):
            assert token.logprob == token.top[0].logprob
            assert token.token == token.top[0].token
            values = [each.logprob for each in token.top]
            assert values == pytest.approx([value for _, value in best], abs=1e-3)
            assert [bytes(each.token).decode() for each in token.top] == [text for text, _ in best]


@pytest.mark.parametrize("how", ["seed", "draft", "lookup", "penalty"])
def test_other_ways(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """With a seed, a penalty, or guesses of a model or from the prompt, values are the same."""
    ways: dict[str, dict[str, Any]] = {
        "seed": {"seed": 1},
        "draft": {"draft": (folder.name, folder)},
        "lookup": {},
        "penalty": {"sampling": {"temperature": 0.0, "repetition_penalty": 1.0001}},
    }
    asked: dict[str, Any] = {"logprobs": 2, "max_tokens": 60}
    [(plain, expected)] = ask(engine, make_request(folder, QUESTION, **asked, prompt_lookup=False))
    if how == "lookup":
        oracle = Oracle(without(engine, folder, QUESTION, **asked)[1], random.Random(1))
        monkeypatch.setattr(solo, "LookupGuesses", lambda *_, **__: oracle)
    call = Call(make_request(folder, QUESTION, **asked, **ways[how]), engine)
    events: list[Event] = []
    call.on_event = events.append
    answer = call.submit().answer()
    tokens = [token for event in events if isinstance(event, Text) for token in event.logprobs]
    assert text_of(tokens) == answer.text == plain
    assert bool(answer.done.kept_tokens) is (how in ("draft", "lookup"))
    for token, other in zip(tokens, expected, strict=True):
        values = [each.logprob for each in (token, *token.top)]
        assert values == pytest.approx([each.logprob for each in (other, *other.top)], abs=1e-2)


def test_without_alternatives(engine: Engine, folder: Path) -> None:
    """With none of the alternatives, there are only the tokens themselves."""
    [(text, tokens)] = ask(engine, make_request(folder, QUESTION, logprobs=0))
    assert text_of(tokens) == text
    assert {token.top for token in tokens} == {()}
    assert all(token.logprob < 0 for token in tokens)


def test_schema(engine: Engine, folder: Path) -> None:
    """Under a schema, a forced token is certain, and nothing that it forbids is an alternative."""
    request = make_request(folder, QUESTION, schema=SCHEMA, max_tokens=40, logprobs=20)
    for answer in (ask(engine, request), ask(engine, request, request)):
        for text, tokens in answer:
            assert text_of(tokens) == text
            assert isinstance(json.loads(text)["minor"], bool)
            for token in tokens:
                assert token.token in [each.token for each in token.top]
                total = math.fsum(math.exp(each.logprob) for each in token.top)
                assert total == pytest.approx(1, abs=1e-3)
            assert any(token.logprob == 0 and len(token.top) == 1 for token in tokens)


def test_only_the_answer(engine: Engine, folder: Path, scripts: Scripts) -> None:
    """Thoughts, markers, white space around them and what follows a stop string do not count."""
    scripts.say("<think>", "Hm, a scale", "</think>", "\n\n", "It has", " notes", " STOP here")
    request = make_request(folder, QUESTION, logprobs=0, stop=(" STOP",), max_tokens=60)
    [(text, tokens)] = ask(engine, request)
    assert text == "It has notes"
    assert text_of(tokens).startswith(text)
    assert bytes(tokens[-2].token).decode() in text


def test_thoughts_are_counted(engine: Engine, folder: Path, scripts: Scripts) -> None:
    """The tokens of the thoughts, with their markers, are a part of all tokens."""
    scripts.say("<think>", "abc", "</think>", "\n\n", "It has notes")
    done = Call(make_request(folder, QUESTION, max_tokens=60), engine).submit().answer().done
    assert 3 <= done.reasoning_tokens <= 5
    assert done.reasoning_tokens < done.generation_tokens
