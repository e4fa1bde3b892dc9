"""The connections to servers, and the processes that they belong to."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from llm_tiered.endpoints.clients import http_settings
from llm_tiered.endpoints.endpoint import Endpoint
from tests.endpoints.scripted_server import MODEL, ScriptedServer, silent, text

if TYPE_CHECKING:
    from tests.endpoints.scripted_server import Handler
    from tests.toys import Toys

FORKS = """
import os, sys, warnings
import llm

sys.path = [each for each in sys.path if not each.endswith("without_openai")]
warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
model = llm.get_model("tiered")

def ask(name):
    return model.prompt(name).text()

def ask_in_child(name):
    child = os.fork()
    if child == 0:
        os._exit(ask(name) != "Hello")
    return os.waitpid(child, 0)[1]

print(ask("first"), ask_in_child("child"), ask("parent"))
held = model.prompt("held").stream_events()
next(held)
print(ask_in_child("another child"))
held.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no forks")
def test_forks(toys: Toys) -> None:
    """A child process has its own connections, and waits for no request of its parent."""
    connections: dict[str, int] = {}

    def kept(handler: Handler) -> None:
        asked = handler.scripted.bodies[-1]["messages"][-1]["content"]
        connections[asked] = handler.client_address[1]
        choice = {"message": {"content": "Hello"}, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice]}).encode()
        form = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        handler.wfile.write((form % len(body)).encode() + body)

    with ScriptedServer() as server:
        server.say(kept, kept, kept, silent(*text("On ")), kept)
        tier = {"name": "medium", "complexity": "1-10", "model": MODEL, "server": server.address}
        toys.configure(tiers=[tier | {"concurrency": 1}], fallback="none")
        command = [sys.executable, "-W", "error", "-c", FORKS]
        process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (process.stdout, process.stderr) == ("Hello 0 Hello\n0\n", "")
    assert connections["first"] != connections["child"]
    assert connections["first"] == connections["parent"]


@pytest.mark.parametrize(
    ("address", "own", "is_direct"),
    [
        ("http://10.0.0.7:8000", True, True),
        ("https://10.0.0.7:8000", True, False),
        ("http://10.0.0.7:8000", False, False),
        ("http://127.0.0.1:8000", False, True),
    ],
)
def test_proxies(*, address: str, own: bool, is_direct: bool) -> None:
    """What isn't encrypted goes to the user's machines without a proxy, which could read it."""
    settings = http_settings(Endpoint(address, own=own))
    # A client with a transport of its own does not look at the environment.
    assert ("transport" in settings) == is_direct
