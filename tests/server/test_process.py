"""`llm tiered serve` as it is typed: what it prints, its keys, and its end by signals."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import yaml
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.server import process
from tests.batch.echo import config

if TYPE_CHECKING:
    import pytest

    from tests.server.conftest import Running

ROOT = Path(__file__).parents[2]
SECRET = "a-secret-of-nobody"


def body(text: str) -> dict[str, object]:
    """A request for the small tier."""
    return {"model": "tiered/small", "messages": [{"role": "user", "content": text}]}


def test_serve(config_file: Path) -> None:
    """The server prints its address, logs neither keys nor texts, and ends with the signals."""
    config_file.write_text(yaml.safe_dump(config(fallback="any")))
    command = [sys.executable, "-m", "tests.server.process", "tiered", "serve", "--port", "0"]
    command += ["--host", "0.0.0.0", "--key", f"laptop={SECRET}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe) as server:
        assert server.stdout
        assert server.stderr
        url = server.stdout.readline().strip().replace("0.0.0.0", "127.0.0.1")
        assert url.endswith("/v1")
        headers = {"authorization": f"Bearer {SECRET}"}
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
            path = "/chat/completions"
            assert client.post(path, json=body("Hello")).status_code == 401
            assert client.post("/chat/completions?key=x", json=body("Hello")).status_code == 401
            answer = client.post(path, json=body("a private text"), headers=headers)
            assert answer.json()["choices"][0]["message"]["content"] == "a private text"
            assert client.post(path, json=body("private, fail"), headers=headers).is_success
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(client.post, path, json=body("wait"), headers=headers)
                while "running 1.0" not in client.get("/../metrics", headers=headers).text:
                    pass
                server.send_signal(signal.SIGTERM)
                server.send_signal(signal.SIGINT)
                assert waiting.result().json()["error"]["code"] == "stopping"
        printed = server.stderr.read()
        assert server.wait(20) == 0
    lines = [line.partition(" ")[2] for line in printed.splitlines()]
    assert lines[:2] == ["401 invalid_api_key"] * 2
    assert lines[2].startswith("POST /v1/chat/completions 200 small mlx/echo-small")
    assert lines[2].endswith(" laptop")
    assert "200 medium mlx/echo-medium, mlx/echo-small failed" in lines[3]
    assert lines[4].startswith("POST /v1/chat/completions 503")
    assert not lines[5:]
    assert "private" not in printed
    assert SECRET not in printed


def test_other_addresses_need_a_key() -> None:
    """Only this machine can ask without a key."""
    result = CliRunner().invoke(cli, ["tiered", "serve", "--host", "0.0.0.0", "--port", "0"])
    assert result.exit_code == 1
    assert "clients need a key (--key NAME=KEY)" in result.output


def test_port_in_use(running: Running) -> None:
    """A port that is in use is one line, not a traceback."""
    result = CliRunner().invoke(cli, ["tiered", "serve", "--port", str(running.port)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: 127.0.0.1:{running.port} can't be used")
    assert len(result.output.splitlines()) == 1


def test_mistake_in_the_config(config_file: Path) -> None:
    """A mistake in the config is told before anything is served."""
    config_file.write_text("tiers: 3")
    result = CliRunner().invoke(cli, ["tiered", "serve", "--port", "0"])
    assert result.exit_code == 1
    assert str(config_file) in result.output


def test_long_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log file that has become long is put aside, and goes on under its name."""
    monkeypatch.setattr(process, "LONGEST_LOG", 10)
    path = tmp_path / "host.log"
    with path.open("a") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        handler = process.LogFileHandler(path)
        for text in ("the first line", "the second line"):
            handler.emit(logging.LogRecord("", logging.INFO, "", 0, text, None, None))
    assert path.read_text() == "the second line\n"
    assert path.with_suffix(".log.old").read_text() == "the first line\n"
