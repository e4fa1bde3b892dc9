"""What a server can do wrong, and the message about it."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.endpoints import health, outages
from llm_tiered.endpoints.endpoint import Endpoint
from llm_tiered.endpoints.problems import missing_model
from llm_tiered.errors import AllTiersFailed, BrokenAnswer
from llm_tiered.router.cooldowns import Cooldowns
from tests.endpoints.conftest import serve
from tests.endpoints.scripted_server import (
    ID,
    ScriptedServer,
    chunk,
    cut,
    raw,
    refused,
    says,
    silent,
    streamed,
    text,
    whole,
)
from tests.router.services import refused_address
from tests.toys import SMALL

if TYPE_CHECKING:
    from tests.endpoints.scripted_server import Reply
    from tests.toys import Ask, Toys

PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>…</body></html>"
CALL = {"index": 0, "id": "call_1", "function": {"name": "clock", "arguments": '{"zone": '}}
LISTED = {"index": 0, "id": "call_1", "function": {"name": "clock", "arguments": [1]}}
LONG = "word " * 500
SHORT = {"prompt_tokens": 256, "completion_tokens": 3}

# What the server does, and the reason of the failed attempt, with * for its address.
FAULTS: list[tuple[str, Reply, str]] = [
    ("no reason", says("", finish=None), "the stream ended without a finish reason"),
    ("nothing at all", raw(), "the stream ended without a finish reason"),
    ("silence", silent(), "* was silent for 0.2 s"),
    ("a cut", cut(chunk({"role": "assistant"})), "the connection broke: peer closed"),
    ("HTML", whole(200, PAGE, "text/html"), "* answers with a web page: 'Sign in'"),
    ("an error with 200", whole(200, {"error": {"message": "no GPU left"}}), "no GPU left"),
    (
        "other JSON",
        whole(200, {"hello": 1}),
        "* sent a reply that is JSON, but not",
    ),
    ("no JSON", whole(200, "oh"), "* sent a reply that is not JSON: 'oh'"),
    ("an error in the stream", streamed({"error": {"message": "no GPU left"}}), "no GPU left"),
    (
        "an event of no JSON",
        raw(b"data: oh no\n\n"),
        "the stream holds an event that is not JSON",
    ),
    ("an event of a list", streamed([1]), "the stream holds [1] instead of an object"),
    (
        "choices of a text",
        streamed({"choices": "ab"}),
        'the stream holds "ab" instead',
    ),
    ("no choice", streamed({"choices": [None]}), "the stream holds null instead of a choice"),
    (
        "a text as a piece",
        streamed({"choices": [{"delta": "hi"}]}),
        'the stream holds "hi"',
    ),
    ("a number as text", streamed(chunk({"content": 5})), "the stream holds 5 instead of a text"),
    ("a call that is text", streamed(chunk({"tool_calls": ["go"]})), 'the stream holds "go" in'),
    ("a nameless call", streamed(chunk({"tool_calls": [{"index": 0}]})), "one of its tool calls"),
    ("arguments of a list", streamed(chunk({"tool_calls": [LISTED]})), "the arguments of its call"),
    ("bytes", raw(b'data: "\xff"\n\n'), "the stream holds bytes that are not text"),
    ("a redirect", whole(307, "", location="http://x.test/v1"), "* redirects to http://x.test/v1"),
    ("a filter", says("", finish="content_filter"), "answered with nothing (content_filter)"),
    ("nothing", says(""), "answered with nothing"),
    ("a missing call", streamed(finish="tool_calls"), "answered with nothing (tool_calls)"),
    ("half a call", streamed(chunk({"tool_calls": [CALL]})), "the arguments of its call of clock"),
    (
        "a call cut off",
        streamed(chunk({"tool_calls": [CALL]}), finish="length"),
        "its tool calls were cut off at max_tokens",
    ),
    ("a refusal", refused(400, "this is no prompt"), "this is no prompt"),
    ("a key", refused(401, "Invalid API key"), "Invalid API key"),
]


def reason(response: Any) -> str:
    """Why the first attempt failed."""
    attempt = response.response_json["tiered"]["attempts"][0]
    assert attempt["model"] == ID
    assert attempt["outcome"] == "failed"
    return str(attempt["reason"])


@pytest.fixture
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no model alone after a failure."""
    monkeypatch.setattr(Cooldowns, "start", lambda *_, **__: None)


@pytest.mark.usefixtures("openai", "_calm")
async def test_faults(ask: Ask, toys: Toys) -> None:
    """Each fault has a reason of one line, and another model answers in full."""
    wrong = {}
    for name, reply, expected in FAULTS:
        with ScriptedServer() as server:
            # Where it helps, the server is asked again.
            server.say(*[reply] * 3)
            serve(toys, server, options={"timeout": 0.2 if name == "silence" else 30})
            response = await ask("Go", tier="medium")
        said = reason(response).replace(server.address, "*")
        if not said.startswith(expected) or response.text_or_raise() != "small answer":
            wrong[name] = said
    assert wrong == {}


async def test_words_are_not_followed_by_others(ask: Ask, server: ScriptedServer) -> None:
    """After the first words of an answer, what goes wrong is an error."""
    for reply, said in (
        (cut(*text("Once upon")), "the connection broke"),
        (says("Once upon", finish=None), "the stream ended without a finish reason"),
        (says("Once upon", finish="content_filter"), "stopped by the service (content_filter)"),
    ):
        server.say(reply)
        with pytest.raises(BrokenAnswer, match=f"{ID} broke off its answer: ") as broken:
            await ask("Go", tier="medium")
        assert said in str(broken.value)


async def test_without_a_stream_another_model_answers(ask: Ask, server: ScriptedServer) -> None:
    """Without a stream, an incomplete answer is discarded, and another model answers."""
    server.say(says("Once upon", finish=None))
    response = await ask("Go", tier="medium", stream=False)
    assert reason(response) == "the stream ended without a finish reason"
    assert response.text_or_raise() == "small answer"


async def test_a_clipped_prompt(ask: Ask, server: ScriptedServer) -> None:
    """A server that has read far fewer tokens than there are words has cut the prompt."""
    server.say(says("Yes.", usage=SHORT))
    response = await ask(LONG, tier="medium", stream=False)
    assert reason(response) == (
        "the server read only 256 tokens of a prompt of 500 words: its context is too short"
    )
    server.say(says("Yes.", usage=SHORT | {"prompt_tokens": 400}))
    assert (await ask(LONG, tier="medium")).resolved_model == ID


async def test_a_server_that_is_not_there(ask: Ask, toys: Toys, server: ScriptedServer) -> None:
    """A server that refuses connections is tried once; the next prompt skips it."""
    gone = refused_address()
    serve(toys, server)
    toys.configure(tiers=[each | _at(each, gone) for each in toys.keys["tiers"]])
    response = await ask("Go", tier="medium")
    assert reason(response) == f"{gone} can't be reached: connection refused"
    response = await ask("Go", tier="medium")
    attempt = response.response_json["tiered"]["attempts"][0]
    assert attempt["outcome"] == "skipped"
    assert gone in attempt["reason"]


def _at(tier: dict[str, Any], address: str) -> dict[str, Any]:
    return {"server": address} if "server" in tier else {}


@pytest.mark.parametrize(
    ("models", "body", "said"),
    [
        (
            ["small", "bigger"],
            "The model `big` does not exist.",
            "only small and bigger (did you mean bigger?)",
        ),
        (
            ["small"],
            "The model `big` does not exist.",
            "has no model 'big', only small →",
        ),
        (None, "The model `big` does not exist.", "failed: The model `big` does not exist."),
        (b"", "The model `big` does not exist.", "failed: The model `big` does not exist."),
        (None, "Not Found", "does the address end in /v1?"),
    ],
)
async def test_a_model_that_it_does_not_have(
    ask: Ask, server: ScriptedServer, models: list[str] | bytes | None, body: str, said: str
) -> None:
    """The server's own list says which models it has."""
    server.models = models
    server.say(refused(404, body))
    with pytest.raises(AllTiersFailed) as failed:
        await ask("Go", tier="medium", fallback="none")
    assert said in str(failed.value)


def test_whole_names_of_other_models() -> None:
    """A message names a few of a server's models, each of them whole."""
    names = [f"mlx-community/Qwen2.5-{size}B-Instruct-4bit" for size in range(1, 13)]
    assert missing_model("nosuch", names) == (
        f"has no model 'nosuch', only {names[0]}, {names[1]}, {names[2]} and 9 more"
    )
    few = ["a", "b", "c", "d", "e"]
    assert missing_model("nosuch", few) == "has no model 'nosuch', only a, b, c, d and e"
    assert missing_model("nosuch", [*few, "f"]).endswith("only a, b, c, d, e and 1 more")
    assert missing_model("nosuch", ["x" * 500, "a"]).endswith("xx and 1 more")
    assert missing_model("nosuch", []) == "has no models"


@pytest.mark.usefixtures("new_process")
@pytest.mark.parametrize("models", [["bigger"], None])
async def test_a_wrong_name_is_not_the_servers_fault(
    ask: Ask, toys: Toys, server: ScriptedServer, models: list[str] | None
) -> None:
    """After a 404 for a model, only this model is left alone: with the right name it answers."""
    server.models = models
    server.say(refused(404, "The model `big` does not exist."))
    await ask("Go", tier="medium")
    assert outages.OUTAGES.find(server.address) is None
    skipped = (await ask("Go", tier="medium")).response_json["tiered"]["attempts"][0]
    assert (skipped["model"], skipped["outcome"]) == (ID, "skipped")
    assert len(server.bodies) == 1
    serve(toys, server, model="bigger")
    assert (await ask("Go", tier="medium")).resolved_model == "server/medium/bigger"


@pytest.mark.usefixtures("new_process")
async def test_another_server_has_the_model(ask: Ask, two: list[ScriptedServer]) -> None:
    """Of two servers, the one without the model is asked once, and the other one answers."""
    prompts = [f"Prompt {number}" for number in range(8)]
    lacking, having = two
    lacking.models = ["other"]
    lacking.say(*[refused(404, "model not found")] * len(prompts))
    for prompt in prompts:
        assert (await ask(prompt, tier="medium")).resolved_model == ID
    assert (len(lacking.bodies), len(having.bodies)) == (1, len(prompts))
    assert outages.OUTAGES.find(lacking.address) is None


async def test_a_busy_server(
    ask: Ask, toys: Toys, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy server is asked again after `retry-after`; if that is long, another model answers."""
    began = outages.now()
    monkeypatch.setattr(outages, "now", lambda: began + sum(toys.delays))
    server.say(refused(429, "slow down", retry_after="3"))
    assert (await ask("Go", tier="medium")).resolved_model == ID
    assert toys.delays == [3.0]
    server.say(refused(429, "slow down", retry_after="300"))
    assert (await ask("Go", tier="medium")).resolved_model == SMALL
    assert toys.delays == [3.0]


async def test_no_tls_there(ask: Ask, toys: Toys, server: ScriptedServer) -> None:
    """An https address whose server does not speak TLS is explained."""
    toys.configure(
        tiers=[
            each | _at(each, server.address.replace("http:", "https:"))
            for each in toys.keys["tiers"]
        ]
    )
    assert "does not speak TLS" in reason(await ask("Go", tier="medium"))


async def test_a_certificate_that_is_not_trusted(
    ask: Ask, toys: Toys, server: ScriptedServer
) -> None:
    """A certificate that can't be verified is explained."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("certificate.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_shake_hands, args=(listener, context))
        thread.start()
        at = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        toys.configure(tiers=[each | _at(each, at) for each in toys.keys["tiers"]])
        said = reason(await ask("Go", tier="medium"))
        thread.join()
    assert said.startswith(f"the certificate of {at} can't be verified: self")


def _shake_hands(listener: socket.socket, context: ssl.SSLContext) -> None:
    connection, _ = listener.accept()
    with connection, suppress(ssl.SSLError):
        context.wrap_socket(connection, server_side=True).close()


@pytest.mark.usefixtures("new_process")
async def test_keys_are_not_remembered(
    ask: Ask, toys: Toys, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that a server repeats is not in what is kept of its failure, nor in its health."""
    key = "sk-" + "0123456789abcdef"
    monkeypatch.setattr("llm.load_keys", lambda: {"box": key})
    serve(toys, server, key="box")
    server.say(whole(200, f"<title>{key} is no key</title>", "text/html"), refused(400, key))
    await ask("Go", tier="medium")
    outage = outages.OUTAGES.find(server.address)
    assert outage is not None
    assert "answers with a web page: '[key] is no key'" in outage.reason
    assert health.answers(Endpoint(server.address), key, "big").problem == "HTTP 400: [key]"
