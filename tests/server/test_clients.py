"""Clients of OpenAI's API get what they expect: OpenAI's own, and llm itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_tiered.mlx.engine.engine import ENGINE
from tests.server.scripted import act
from tests.tiny_models import build

if TYPE_CHECKING:
    from tests.server.conftest import Client, Running
    from tests.toys import Toys

SCRIPT = Path(__file__).parent / "clients.py"


def with_openai() -> dict[str, str]:
    """The environment without the path on which tests have a stand-in for OpenAI's client."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_clients(running: Running, toys: Toys, logged: Path, tmp_path: Path) -> None:
    """Both get words, streams, calls, JSON and errors, sync and async."""
    toys.small.tools = toys.small.schemas = True
    vars(toys.small)["script"] = act
    done = subprocess.run(
        [sys.executable, SCRIPT, f"{running.url}/v1", tmp_path],
        env=with_openai() | {"LLM_LOAD_PLUGINS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "models": ["tiered", "tiered/local"],
        "headers": "option",
        "words": "small answer",
        "stream": ["small ", "answer", None],
        "tokens": 7,
        "call": {"name": "add", "arguments": '{"a": 1}'},
        "streamed calls": ["tool_calls", 2],
        "results": "the results are ['2', '2']",
        "dog": "Rex",
        "errors": [
            ["NotFoundError", "model_not_found"],
            ["BadRequestError", "invalid_value"],
            ["BadRequestError", "unknown_privacy_field"],
        ],
        "broken": "model_failed",
        "many": [7, "hm", "small answer"],
        "responses": {
            "words": "small answer",
            "stream": ["small ", "answer"],
            "streamed": "small answer",
            "call": ["function_call", '{"a": 1}'],
            "result": "the results are ['1']",
            "continued": ["the results are ['1']", True],
            "dog": "Rex",
            "broken": "model_failed",
        },
        "llm": {
            "words": "small answer",
            "no stream": "small answer",
            "schema": '{"name": "Rex"}',
            "conversation": "user assistant user",
            "tools": "Let me see the results are ['2', '3']",
        },
    }


def test_local_model(client: Client, toys: Toys, tmp_path: Path) -> None:
    """A real local model answers, in a stream and with JSON, and says what it had in its cache."""
    folder = build("qwen2", tmp_path / "tiny", context=640)
    toys.configure(models=[{"id": "tiny", "path": str(folder)}])
    body: dict[str, Any] = {"model": "mlx/tiny", "seed": None, "max_tokens": 4, "temperature": 0}
    whole = client.post(**body).json()
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 4
    *events, usage, _ = client.events(**body, stream_options={"include_usage": True})
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert text == whole["choices"][0]["message"]["content"]
    assert usage["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    schema = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = client.chat(**body | {"response_format": form, "max_tokens": 40})
    assert json.loads(answer["message"]["content"]) == {"a": 1}
    ENGINE.close()


def test_readme(running: Running, toys: Toys) -> None:
    """The Python of the README, which needs only OpenAI's client, gets an answer."""
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    [code] = re.findall(r"^```python\n(from openai .*?)^```$", readme, re.M | re.S)
    code = code.replace("http://127.0.0.1:8484", running.url)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=with_openai(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("small answer\n", "")
