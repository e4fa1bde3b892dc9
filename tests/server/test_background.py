"""A server in the background: how it starts, that there is one, and what is said if it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from llm_tiered.errors import TieredError
from llm_tiered.paths import servers_folder
from llm_tiered.server import background
from llm_tiered.server.access import Key
from llm_tiered.server.instances import log_file, running
from llm_tiered.server.running import listen
from tests.cli.commands import refused, run

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "a-secret-of-nobody"


@pytest.fixture
def _stopped() -> Iterator[None]:
    """Leave no server behind."""
    yield
    run("stop", "--now")
    assert running() == []


@pytest.mark.usefixtures("_stopped")
def test_background(config_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It answers once its URL is shown, is there only once, has its own log, and can be stopped."""
    config_file.write_text("keep_warm: 0\n")
    monkeypatch.chdir(tmp_path)
    arguments = ["serve", "--background", "--key", f"laptop={SECRET}"]
    started = run(*arguments, "--port", "0")
    url = started.stdout.strip()
    [server] = running()
    assert (server.url, server.kind, server.keys) == (url, "background", ("laptop",))
    assert (
        f"it runs in the background (process {server.pid}) until: llm tiered stop" in started.stderr
    )
    models = f"{url}/models"
    assert httpx.get(models, trust_env=False).status_code == 401
    headers = {"authorization": f"Bearer {SECRET}"}
    assert httpx.get(models, headers=headers, trust_env=False, timeout=20).is_success
    again = run(*arguments, "--port", "0")
    assert again.stdout == started.stdout
    assert again.stderr.startswith(f"it is running already at {url} since")
    assert "another server runs in the background" in refused("serve", "--background")
    assert "uses port" in refused("serve", "--port", str(server.port))
    process = Path(f"/proc/{server.pid}")
    if process.exists():
        assert SECRET not in (process / "cmdline").read_text()
        assert (process / "cwd").resolve() == Path("/")
    stopped = run("stop")
    assert stopped.stdout.startswith(f"stopped: the server at {url}")
    log = log_file()
    assert log.stat().st_mode & 0o777 == 0o600
    assert "401 invalid_api_key" in log.read_text()
    assert SECRET not in log.read_text()


@pytest.mark.usefixtures("user_path")
def test_nothing_runs() -> None:
    """It is no error to stop nothing."""
    assert run("stop").stderr == "nothing runs in the background\n"


def python(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this be what starts instead of the server."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'Error: no luck today' >&2; exit 1", "no luck today"),
        ("echo Traceback; echo 'OSError: no luck' >&2; exit 1", "OSError: no luck"),
        ("exit 3", "it ended without a word"),
        ("read line; kill -9 $$", "it ended without a word"),
    ],
)
def test_errors_are_shown(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server says before it ends is shown, and where its whole output is."""
    servers_folder().mkdir(parents=True)
    log_file().write_text("earlier\n")
    python(tmp_path, script, monkeypatch)
    with pytest.raises(TieredError) as caught:
        background.start(listen("127.0.0.1", 0), "127.0.0.1", ())
    assert caught.value.message == f"the server did not start: {reason}"
    assert caught.value.fix == f"its output is in {log_file()}"


def test_it_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that only hangs is killed."""
    servers_folder().mkdir(parents=True)
    monkeypatch.setattr(background, "READY_WITHIN", 0.1)
    python(tmp_path, "exec sleep 60", monkeypatch)
    with pytest.raises(TieredError, match="it does not answer"):
        background.start(listen("127.0.0.1", 0), "127.0.0.1", ())


def test_what_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come through a pipe, and paths do not depend on the folder where it was started."""
    servers_folder().mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", "hub")
    python(tmp_path, f"cat > {tmp_path}/told; echo $HF_HOME > {tmp_path}/home", monkeypatch)
    with pytest.raises(TieredError):
        background.start(listen("127.0.0.1", 0), "localhost", (Key("laptop", SECRET),))
    told = json.loads((tmp_path / "told").read_text())
    assert told["keys"] == [{"name": "laptop", "secret": SECRET}]
    assert told["host"] == "localhost"
    assert (tmp_path / "home").read_text() == f"{tmp_path}/hub\n"


def test_folder_that_cannot_be_made(user_path: Path) -> None:
    """A folder that can't be written to is an error with its name."""
    (user_path / "tiered").touch()
    with pytest.raises(TieredError, match=r"tiered/servers.*can't be written"), background.alone():
        pass
    with listen("127.0.0.1", 0) as listener, pytest.raises(TieredError, match="can't be written"):
        background.start(listener, "127.0.0.1", ())


def test_without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no locks, as on Windows, there is no server in the background."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(TieredError, match="needs macOS or Linux"), background.alone():
        pass
