"""`-o logprobs`: how likely an answer's tokens were, in llm's log and beside llm's events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered import logprobs
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "mlx/likely"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that ends its turn."""
    return build("phi3", tmp_path_factory.mktemp("likely"), eos_bias=44.0)


@pytest.fixture(autouse=True)
def _tier(folder: Path, config_file: Path) -> None:
    """The model is the only tier."""
    tier = {"name": "small", "complexity": "1-10", "model": MODEL}
    config = {"models": [{"id": MODEL, "path": str(folder)}], "tiers": [tier], "cache": True}
    config_file.write_text(json.dumps(config))


def ask(*arguments: str) -> dict[str, Any]:
    """Ask on llm's command line, and return the turn that it logs."""
    # The last token, which ends the turn, is not part of the answer.
    options = ("-o", "max_tokens", "99", "-o", "temperature", "0")
    result = CliRunner().invoke(cli, [*arguments, *options, "Hello"])
    assert result.exit_code == 0, result.output
    turn: dict[str, Any] = json.loads(CliRunner().invoke(cli, ["logs", "-n1", "--json"]).output)[0]
    assert turn["response"] == result.stdout.removesuffix("\n")
    return turn


def test_in_the_log() -> None:
    """A local model's answer is logged with its tokens, in OpenAI's form, but only if asked."""
    assert "logprobs" not in ask("-m", MODEL)["response_json"]
    turn = ask("-m", MODEL, "-o", "logprobs", "2")
    tokens = turn["response_json"]["logprobs"]["content"]
    assert len(tokens) == turn["output_tokens"] - 1
    raw = bytes(byte for token in tokens for byte in token["bytes"])
    assert raw.decode().removeprefix(" ") == turn["response"]
    for token in tokens:
        assert len(token["top_logprobs"]) == 2
        first = token["top_logprobs"][0]
        assert {name: token[name] for name in first} == first
        assert first["token"] == bytes(first["bytes"]).decode()


def test_no_answer_from_the_cache() -> None:
    """Log-probabilities belong to a new answer: `tiered` asks its model again."""
    for _ in range(2):
        reply = ask("-m", "tiered", "-o", "logprobs", "0")["response_json"]
        assert reply["tiered"]["cached_from"] is None
        assert reply["response"]["logprobs"]["content"]
    assert ask("-m", "tiered")["response_json"]["tiered"]["cached_from"] is None
    assert ask("-m", "tiered")["response_json"]["tiered"]["cached_from"] is not None


async def test_beside_the_events() -> None:
    """Each text of a stream comes with its tokens, sync and async."""
    options: dict[str, Any] = {"max_tokens": 4, "temperature": 0, "logprobs": 1}
    response = llm.get_model(MODEL).prompt("Hello", **options)
    tokens = [token for event in response.stream_events() for token in logprobs.of_event(event)]
    later = llm.get_async_model(MODEL).prompt("Hello", **options)
    events = [event async for event in later.astream_events()]
    assert [token for event in events for token in logprobs.of_event(event)] == tokens
    assert response.response_json
    assert response.response_json["logprobs"]["content"] == tokens


@pytest.mark.parametrize("value", ["-1", "21", "many"])
def test_wrong_numbers(value: str) -> None:
    """A number of alternatives that is too large, or none, is an error."""
    result = CliRunner().invoke(cli, ["-m", MODEL, "-o", "logprobs", value, "Hello"])
    assert result.exit_code != 0
    assert "logprobs" in result.output
