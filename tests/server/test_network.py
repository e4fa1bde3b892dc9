"""What another host reaches: two network namespaces, joined by a cable, are the two hosts.

Only root can make them, on Linux. Elsewhere the test says that it can't.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.conftest import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SERVER, CLIENT = "10.77.0.1", "10.77.0.2"

# Prints the status of each request, or the name of what went wrong.
ASK = """
import http.client, json, sys
for host, port, headers in json.loads(sys.argv[1]):
    connection = http.client.HTTPConnection(host, port, timeout=20)
    try:
        connection.request("GET", "/v1/models", headers=headers)
        print(connection.getresponse().status)
    except OSError as error:
        print(type(error).__name__)
"""


def ip(*arguments: str) -> None:
    """Run `ip`. Raises subprocess.CalledProcessError or OSError."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[str, str]]:
    """The names of the namespaces of a server and of a client."""
    hosts = (f"tiered-server-{os.getpid()}", f"tiered-client-{os.getpid()}")
    try:
        ip("netns", "add", hosts[0])
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", None) or str(error)
        pytest.skip(f"network namespaces can't be made here: {why.strip()}")
    try:
        ip("netns", "add", hosts[1])
        ip(
            "-n",
            hosts[0],
            "link",
            "add",
            "cable",
            "type",
            "veth",
            "peer",
            "cable",
            "netns",
            hosts[1],
        )
        for host, address in zip(hosts, (SERVER, CLIENT), strict=True):
            ip("-n", host, "addr", "add", f"{address}/24", "dev", "cable")
            ip("-n", host, "link", "set", "cable", "up")
            ip("-n", host, "link", "set", "lo", "up")
        yield hosts
    finally:
        for host in hosts:
            # The cable goes with them.
            subprocess.run(["ip", "netns", "del", host], check=False, capture_output=True)


def test_other_host(hosts: tuple[str, str]) -> None:
    """Another host needs the key, and reaches no server on loopback.

    A server on one address is asked by its address only; one on all of them by any name.
    """
    inside = ["ip", "netns", "exec"]
    serve = [*inside, hosts[0], sys.executable, "-m", "tests.server.elsewhere"]
    serve += ["0.0.0.0", SERVER, "127.0.0.1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(serve, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdout
        everywhere, one, loopback = json.loads(server.stdout.readline())
        key = {"authorization": f"Bearer {KEY}"}
        wrong = {"authorization": "Bearer wrong"}
        cases: list[tuple[int, dict[str, str], str]] = [
            (everywhere, key, "200"),
            (everywhere, {}, "401"),
            (everywhere, wrong, "401"),
            (everywhere, key | {"host": "box.example"}, "200"),
            (everywhere, {"host": "box.example"}, "401"),
            (everywhere, key | {"origin": "http://page.example"}, "403"),
            (one, key, "200"),
            (one, {}, "401"),
            (one, key | {"host": "box.example"}, "403"),
            (loopback, key, "ConnectionRefusedError"),
        ]
        requests: list[Any] = [(SERVER, port, headers) for port, headers, _ in cases]
        ask = [*inside, hosts[1], sys.executable, "-c", ASK, json.dumps(requests)]
        asked = subprocess.run(ask, check=True, capture_output=True, text=True)
        assert asked.stdout.split() == [expected for *_, expected in cases]
        server.communicate()
    assert server.returncode == 0
