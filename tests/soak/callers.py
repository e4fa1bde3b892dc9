"""Those who ask during a soak: commands of llm, and clients of the server."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

# Seconds after which a request hangs: nothing here takes a tenth of it on an idle machine.
PATIENCE = 120.0

MODELS = ("mlx/one", "mlx/two", "mlx/three", "tiered", "mlx/broken")


@dataclass
class Results:
    """How requests ended, and what should not have happened."""

    ends: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    offences: list[str] = field(default_factory=list)

    def add(self, end: str) -> None:
        """Count an end."""
        self.ends[end] += 1

    def add_error(self, message: str) -> None:
        """Count a message, without its numbers."""
        self.errors[re.sub(r"\d+", "…", message.strip())[:300]] += 1

    def blame(self, what: str) -> None:
        """Keep what should not have happened."""
        self.offences.append(what)


def command(random: Random, results: Results) -> None:
    """Run a prompt on the command line; leave it, or kill it, before its end now and then."""
    name = random.choice(MODELS)
    arguments = ["-m", name, "-o", "max_tokens", str(random.choice((1, 8, 64, 300)))]
    if random.random() < 0.3:
        arguments.append("-c")
    if random.random() < 0.1:
        arguments += ["-s", "word " * 4000]  # more than the context holds
    process = subprocess.Popen(
        [sys.executable, "-m", "llm", *arguments, f"Question {random.random()}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ending = random.choice([None, None, signal.SIGKILL, signal.SIGINT])
    try:
        if ending is None:
            output, errors = process.communicate(timeout=PATIENCE)
        else:
            time.sleep(random.uniform(0.2, 4.0))
            process.send_signal(ending)
            output, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        results.blame(f"llm {' '.join(arguments)[:80]} hung")
        return
    if process.returncode == 0:
        results.add("command: answer")
    elif ending is not None:
        results.add("command: left")
        return
    else:
        results.add("command: error")
        results.add_error(errors)
    if "database is locked" in errors and "llm/logs.py" in errors:
        # llm's own: see findings/llm-log-locked.sh.
        results.add("command: an answer that llm could not log")
    elif "Traceback" in errors:
        results.blame(f"llm {' '.join(arguments)[:80]} showed a traceback: {errors[-1500:]}")
    elif process.returncode and not errors.strip():
        results.blame(f"llm {' '.join(arguments)[:80]} failed without a word")
    elif process.returncode == 0 and not output.strip():
        results.blame(f"llm {' '.join(arguments)[:80]} answered nothing: {errors[-300:]}")


def client(port: int, random: Random, results: Results) -> None:
    """Ask the server; leave in the middle of the answer now and then."""
    body: dict[str, Any] = {
        "model": random.choice(MODELS),
        "messages": [{"role": "user", "content": f"Question {random.random()}"}],
        "max_tokens": random.choice((1, 8, 64, 300)),
        "stream": random.random() < 0.6,
    }
    if random.random() < 0.05:
        body["messages"] = "not a list"
    if random.random() < 0.1:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "it", "schema": {"type": "object"}},
        }
    leaves = random.random() < 0.25
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        if leaves and not body["stream"]:
            time.sleep(random.uniform(0, 0.5))
            results.add("client: left")
            return
        response = connection.getresponse()
        if leaves:
            response.read(random.randrange(1, 2000))
            results.add("client: left")
            return
        _judge(body, response.status, response.read().decode(), results)
    except TimeoutError:
        results.blame(f"no answer to {str(body)[:200]}")
    except (OSError, http.client.HTTPException) as error:
        results.blame(f"the server closed the connection: {error!r} for {str(body)[:200]}")
    finally:
        connection.close()


def _judge(body: dict[str, Any], status: int, text: str, results: Results) -> None:
    if status != http.client.OK:
        if message := json.loads(text).get("error", {}).get("message"):
            results.add(f"client: error {status}")
            results.add_error(f"{status}: {message}")
        else:
            results.blame(f"{status} without a message: {text[:200]}")
    elif not body["stream"]:
        choice = json.loads(text)["choices"][0]
        if choice["finish_reason"] not in {"stop", "length"}:
            results.blame(f"a strange answer: {text[:300]}")
        results.add("client: answer")
    elif text.endswith("data: [DONE]\n\n"):
        results.add("client: stream")
    elif '"error"' in text.rstrip().rpartition("\n\n")[2]:
        results.add("client: stream, then an error")
        results.add_error(text.rstrip().rpartition("\n\n")[2])
    else:
        results.blame(f"a stream ended without a mark: {text[-300:]}")
