"""Starting an engine, where it can't be started, and what it inherits."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from llm.cli import cli

from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.process import choice, client, start
from llm_tiered.mlx.process.place import EngineFiles, places
from llm_tiered.mlx.process.start import StartError, Starting
from tests.mlx.process.engines import WARM, warm_model

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "mlx/shared"


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make this process llm's command line."""
    main = ModuleType("__main__")
    main.cli = cli  # type: ignore[attr-defined]  # as in llm's script
    monkeypatch.setitem(sys.modules, "__main__", main)
    yield
    ENGINE.close()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have started an engine."""
    commands: list[list[str]] = []

    def note(command: list[str], **_: object) -> subprocess.Popen[bytes]:
        commands.append(command)
        raise OSError(2, "not in this test")

    monkeypatch.setattr(subprocess, "Popen", note)
    return commands


def test_python_api_starts_none(user_path: Path, started: list[list[str]]) -> None:
    """A Python program that runs no engine answers by itself."""
    assert not start.is_permitted()
    assert choice.engine_for(NAME, WARM) is ENGINE
    assert started == []
    assert list(user_path.iterdir()) == []


@pytest.mark.usefixtures("command_line", "user_path")
def test_command_line_starts_one(started: list[list[str]]) -> None:
    """The command line starts this Python in the module of the engine."""
    choice.engine_for(NAME, WARM)
    [command] = started
    stem = str(places()[0].socket.with_suffix(""))
    assert command[:5] == [sys.executable, "-m", "llm_tiered.mlx.process.main", "60", stem]


@pytest.mark.usefixtures("command_line", "user_path")
def test_check_starts_none(folder: Path, started: list[list[str]]) -> None:
    """To see whether a model can answer needs no engine."""
    warm_model(folder, NAME).check(allow_cpu=False)
    assert started == []


@pytest.mark.usefixtures("command_line", "user_path")
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'Traceback'; echo 'ImportError: no uvicorn' >&2; exit 1", "ImportError: no uvicorn"),
        ("exit 3", "it ended with code 3"),
        (None, "No such file"),
    ],
    ids=["error", "silent", "missing"],
)
def test_python_that_cannot_start_it(
    script: str | None,
    reason: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The prompts are answered in this process, with one warning that says why."""
    python = places()[0].folder.parent / "python"
    python.parent.mkdir()
    if script:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    for _ in range(2):
        assert warm_model(folder, NAME).prompt("Hello", max_tokens=2).text()
        ENGINE.close()
    [warning] = caplog.messages
    assert warning.startswith("models don't stay in memory, because the engine can't be started: ")
    assert reason in warning


@pytest.mark.usefixtures("command_line")
def test_directory_of_another_user(
    user_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[list[str]]
) -> None:
    """With sudo and somebody else's home, no engine is started or used, and nothing is written."""
    monkeypatch.setattr(os, "geteuid", lambda: user_path.stat().st_uid + 1)
    with pytest.raises(StartError, match="belongs to another user"):
        Starting(60)
    assert choice.engine_for(NAME, WARM) is ENGINE
    assert started == []
    assert list(user_path.iterdir()) == []


@pytest.mark.usefixtures("user_path")
def test_limits_of_the_shell(monkeypatch: pytest.MonkeyPatch, started: list[list[str]]) -> None:
    """A process with a limit of its own starts no engine, which would have it for all others."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (3, 3))
    with pytest.raises(StartError, match="limits the time of its processes"):
        Starting(60)
    assert started == []


@pytest.mark.parametrize("number", [13, 28, 30], ids=["no permission", "full", "read-only"])
@pytest.mark.usefixtures("started")
def test_unusable_directory(
    number: int,
    user_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If nothing can be written to llm's directory, the engine's files are temporary ones."""
    prepare = EngineFiles.prepare

    def fail(files: EngineFiles) -> None:
        if user_path in files.folder.parents:
            raise OSError(number, os.strerror(number), str(files.folder))
        prepare(files)

    monkeypatch.setattr(EngineFiles, "prepare", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("t")))
    with pytest.raises(StartError, match="not in this test"):
        Starting(60)
    own, temporary = places()
    assert not own.folder.exists()
    assert temporary.log.exists()
    assert temporary.folder.stat().st_mode & 0o777 == 0o700


def test_environment() -> None:
    """The engine finds its libraries, and gets neither keys nor proxies; paths are absolute."""
    own = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_ALL": "C",
        "PYTHONPATH": f"lib{os.pathsep}/opt",
        "LLM_USER_PATH": "data",
        "CUDA_VISIBLE_DEVICES": "1",
        "LLM_GEMINI_KEY": "secret",
        "OPENAI_API_KEY": "secret",
        "HF_TOKEN": "secret",
        "HTTPS_PROXY": "http://me:secret@proxy",
        "SSH_AUTH_SOCK": "/agent",
        "TMPDIR": "/tmp/of-a-script",
    }
    assert start.environment(own) == {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_ALL": "C",
        "PYTHONPATH": f"{Path('lib').absolute()}{os.pathsep}/opt",
        "LLM_USER_PATH": str(Path("data").absolute()),
        "CUDA_VISIBLE_DEVICES": "1",
        "HF_HUB_OFFLINE": "1",
    }


def test_no_user_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where llm can't have a directory, as in a container without a home, there is no engine."""
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("LLM_USER_PATH", str(file / "llm"))
    assert client.running() is None
    assert choice.engine_for(NAME, WARM) is ENGINE
    with pytest.raises(StartError, match="there is no user directory"):
        Starting(60)
