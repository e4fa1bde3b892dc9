"""Servers of tiers in `status`, `verify` and `route`."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs.ledger import Ledger
from llm_tiered.endpoints import health, outages
from llm_tiered.endpoints.outages import OUTAGES, Outage
from llm_tiered.paths import ledger_path
from tests.cli.commands import run, run_json
from tests.endpoints.conftest import serve
from tests.endpoints.scripted_server import ID, ScriptedServer, refused, says, silent

if TYPE_CHECKING:
    from tests.toys import Toys

pytestmark = pytest.mark.usefixtures("openai", "new_process")


@pytest.fixture(autouse=True)
def _no_engine(toys: Toys) -> None:
    toys.configure(keep_warm=0)


def findings(*args: str, code: int = 0) -> dict[str, dict[str, str]]:
    """The findings of `verify --json` about the medium tier."""
    found = run_json("verify", *args, code=code)
    return {each["part"]: each for each in found if each["part"].startswith("medium")}


def left_alone(address: str, seconds: float = 50.0) -> None:
    """Note that a server has failed."""
    OUTAGES.note(address, Outage("connection refused", outages.now() + seconds))


def test_status(server: ScriptedServer) -> None:
    """Each server has a line: whether its model answers, and why it gets no prompts."""
    [facts] = run_json("status")["endpoints"]
    assert (facts["tier"], facts["address"], facts["problem"]) == ("medium", server.address, None)
    assert facts["token_ms"] > 0
    left_alone(server.address)
    line = next(each for each in run("status").stdout.splitlines() if server.address in each)
    assert line.startswith(f"medium at {server.address}: wrote a token in ")
    assert line.endswith(": connection refused")
    assert "left alone until" in line


def test_no_token_from_somebody_else(toys: Toys) -> None:
    """A server in the cloud, or with a price, is not asked for a token."""
    with ScriptedServer() as server:
        for keys in ({"place": "cloud"}, {"price": {"input": 1, "output": 1}}):
            serve(toys, server, **keys)
            [facts] = run_json("status")["endpoints"]
            assert (facts["problem"], facts["token_ms"]) == (None, None)
        assert server.bodies == []


def test_verify(server: ScriptedServer) -> None:
    """A server that answers is ok, and so is its tier."""
    found = findings()
    assert {part: each["state"] for part, each in found.items()} == {
        f"medium at {server.address}": "ok",
        f"medium ({ID})": "ok",
    }


def test_verify_without_the_model(server: ScriptedServer) -> None:
    """For a server without the tier's model, the nearest name that it has is shown."""
    server.models = ["bigger", "small"]
    server.say(refused(404, "model not found"))
    [found] = findings().values()
    assert found["state"] == "warn"
    assert found["detail"] == "has no model 'big', only bigger and small (did you mean bigger?)"


def test_verify_of_a_server_that_is_gone(toys: Toys) -> None:
    """A server that is not there is a warning, since the chain works without it."""
    with ScriptedServer() as server:
        pass
    serve(toys, server)
    [found] = findings().values()
    assert (found["state"], found["detail"]) == ("warn", "connection refused")
    assert found["fix"] == "start it, or correct its address"


def test_reason_is_told_once(toys: Toys) -> None:
    """A server that is gone and left alone has its reason once."""
    with ScriptedServer() as server:
        pass
    serve(toys, server)
    for reason in ("connection refused", f"{server.address} can't be reached: connection refused"):
        OUTAGES.note(server.address, Outage(reason, outages.now() + 50))
        [found] = findings().values()
        assert found["detail"].count("connection refused") == 1
        assert "left alone until" in found["detail"]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"key": "box"}, "refuses the key: HTTP 401: wrong → llm keys set box"),
        ({}, "needs a key: HTTP 401: wrong → llm keys set NAME, and key: NAME in the tier"),
    ],
)
def test_verify_of_a_key(
    toys: Toys,
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    keys: dict[str, str],
    told: str,
) -> None:
    """For a key that is missing or wrong, the fix is the command that sets one."""
    monkeypatch.setattr("llm.load_keys", lambda: {"box": "secret-of-the-box"})
    serve(toys, server, **keys)
    server.say(refused(401, "wrong"))
    [found] = findings().values()
    assert (found["state"], f"{found['detail']} → {found['fix']}") == ("warn", told)


def test_verify_of_a_server_that_loads_its_model(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is slow to write a token is waited for with --generate."""
    monkeypatch.setattr(health, "TOKEN_WITHIN", 0.1)
    server.say(silent())
    [found] = findings().values()
    assert found["detail"].startswith("is there, but has not written a token within 0.1 s")
    assert found["fix"] == "try again"
    server.say(silent(), says("Here I am"))
    assert findings("--generate", code=1)["medium says"]["state"] == "ok"


def test_route_asks_nobody(server: ScriptedServer) -> None:
    """`route` shows known outages without asking a server."""
    chain = run_json("route", "-o", "complexity", "6", "Hello")["chain"]
    assert (chain[0]["model"], chain[0]["outcome"]) == (ID, "ready")
    for outage in (
        Outage("connection refused", outages.now() + 50),
        Outage("HTTP 429", outages.now() + 50, "time"),
    ):
        OUTAGES.note(server.address, outage)
        chain = run_json("route", "-o", "complexity", "6", "Hello")["chain"]
        assert chain[0]["outcome"] == "skipped"
        assert chain[0]["reason"].endswith(f"{server.address}: {outage.reason}")
    assert server.paths == []


def test_what_it_can_do(server: ScriptedServer) -> None:
    """`verify --generate` asks for a schema, a tool and so on, and shows the results."""
    # Gemini is beyond the tests' network.
    found = findings("--generate", code=1)
    said: dict[str, Any] = {
        part.removeprefix("medium: "): (each["state"], each["detail"])
        for part, each in found.items()
        if part.startswith("medium: ")
    }
    assert said == {
        "schemas": ("warn", "ignored; answers are checked, and a second miss goes to another tier"),
        "tools": ("ok", "accepted, but the model called none"),
        "reasoning": ("ok", "the model did not think"),
        "usage": ("ok", "counted (7 + 3 tokens)"),
        "cached tokens": ("ok", "none reported for a repeated prompt"),
        "log-probabilities": ("ok", "no, so `escalate` judges the text alone"),
    }
    assert found["medium says"]["detail"] == "Hello (asked: Say hello in three words.)"


def test_enforced_schema(server: ScriptedServer) -> None:
    """A schema that the server enforces is reported."""
    server.say(*[says("Hello")] * 2, says('{"colour": "vermilion"}'))
    assert findings("--generate", code=1)["medium: schemas"]["detail"] == "enforced"


def test_questions_are_paid_for(toys: Toys, server: ScriptedServer) -> None:
    """The questions to a rented server count towards the budget, at the price in the config."""
    serve(toys, server, place="cloud", price={"input": 1, "output": 1})
    toys.configure(budget={"day": 1})
    findings("--generate", code=1)
    with Ledger(ledger_path()) as ledger:
        entries = ledger.between(None, None)
    amounts = [entry.amount for entry in entries if entry.model == ID]
    # Each answer has 7 tokens of the prompt and 3 of its own.
    assert amounts == [Decimal("0.00001")] * len(server.bodies)
    assert len(amounts) > 5
