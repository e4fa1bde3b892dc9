"""The files that make the server a service, read by what reads them: systemd and plistlib."""

from __future__ import annotations

import json
import os
import plistlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from llm_tiered.paths import keys_path
from llm_tiered.server import units
from tests.cli.commands import refused, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "a-secret-of-nobody"
NASTY = "a b%i$HOME\"'\\ü;#"


@pytest.fixture
def home(tmp_path: Path, user_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with systemd, and llm with a stored key."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("sys.platform", "linux")
    keys_path().write_text(json.dumps({"laptop": SECRET}))
    return tmp_path


@pytest.fixture
def mac(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder on a Mac."""
    monkeypatch.setattr("sys.platform", "darwin")
    return home


@pytest.fixture
def script(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Let llm be called as a script in a folder of that name."""

    def called(folder: str) -> Path:
        path = home / folder / "llm"
        path.parent.mkdir()
        path.write_text("#!/bin/sh\n")
        path.chmod(0o700)
        monkeypatch.setattr(sys, "argv", [str(path)])
        return path

    return called


def unit(home: Path) -> str:
    """The unit that is installed."""
    return (home / ".config/systemd/user/llm-tiered.service").read_text()


def agent(home: Path) -> dict[str, object]:
    """The agent that is installed."""
    path = home / "Library/LaunchAgents/llm-tiered.plist"
    content: dict[str, object] = plistlib.loads(path.read_bytes())
    return content


def test_install(home: Path, script: Callable[[str], Path]) -> None:
    """The unit starts the server as it was typed, and all commands around it are shown."""
    llm = script("bin")
    result = run("serve", "--install", "--host", "0.0.0.0", "--key", "laptop")
    command = f"{llm} tiered serve --host 0.0.0.0 --port 8484 --key laptop"
    assert f"\nExecStart={command}\n" in unit(home)
    assert result.stdout == (
        f"written: {home}/.config/systemd/user/llm-tiered.service\n"
        "to start it now, and whenever you log in:\n"
        "  systemctl --user daemon-reload\n"
        "  systemctl --user enable llm-tiered\n"
        "  systemctl --user restart llm-tiered\n"
        "to see its log:\n"
        "  journalctl --user -u llm-tiered\n"
        "to undo this:\n"
        "  systemctl --user disable --now llm-tiered\n"
        "  llm tiered serve --uninstall\n"
    )
    run("serve", "--install", "--port", "9000")
    assert "--port 9000\n" in unit(home)


def test_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the shell go with it, secrets do not, and that is said."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("FORCE_LOCAL_LLM", "true")
    monkeypatch.setenv("HF_HOME", "hub")
    monkeypatch.setenv("LLM_GEMINI_KEY", SECRET)
    result = run("serve", "--install", "--key", "laptop")
    assert SECRET not in unit(home) + result.output
    assert "LLM_GEMINI_KEY: store the key (llm keys set gemini)" in result.stderr
    assert "\nEnvironment=FORCE_LOCAL_LLM=true\n" in unit(home)
    assert f"\nEnvironment=HF_HOME={home}/hub\n" in unit(home)
    assert f"\nEnvironment=LLM_USER_PATH={os.environ['LLM_USER_PATH']}\n" in unit(home)


def test_uninstall(home: Path) -> None:
    """The file is removed, but not while systemd has it enabled."""
    path = home / ".config/systemd/user/llm-tiered.service"
    assert run("serve", "--uninstall").stderr == f"no service is installed: there is no {path}\n"
    run("serve", "--install")
    mark = path.parent / "default.target.wants" / path.name
    mark.parent.mkdir()
    mark.symlink_to(path)
    message = "the service is still enabled (systemctl --user disable --now llm-tiered)"
    assert refused("serve", "--uninstall") == message
    mark.unlink()
    assert run("serve", "--uninstall").stdout == f"removed: {path}\n"
    assert not path.exists()


def verified(path: Path) -> str:
    """What systemd has to say about a unit."""
    command = ["systemd-analyze", "--user", "verify", str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True).stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
@pytest.mark.parametrize("folder", ["bin", "a b%i$HOME;#ü", NASTY])
def test_systemd_reads_it(
    folder: str, home: Path, script: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Systemd accepts the unit, and finds a program whose path has characters of its own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    monkeypatch.setenv("HF_HOME", f"/{NASTY}")
    llm = script(folder)
    run("serve", "--install", "--key", "laptop")
    path = home / ".config/systemd/user/llm-tiered.service"
    assert verified(path) == ""
    if folder != NASTY:
        llm.unlink()
        assert f"Command {llm} is not executable" in verified(path)


def test_quotes() -> None:
    """Words of a unit are quoted if they have to be."""
    words = {"a": "a", "--x=1": "--x=1", "": '""', "100%": "100%%", "a b": '"a b"'}
    words |= {'"': r'"\""', "\\": r'"\\"', "a\nb": r'"a\nb"'}
    assert {word: units._quote(word) for word in words} == words


def test_agent(mac: Path, script: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Mac it is an agent of launchd."""
    monkeypatch.setenv("HF_HOME", f"/{NASTY}")
    llm = script(NASTY)
    result = run("serve", "--install", "--key", "laptop")
    content = agent(mac)
    expected = [
        str(llm),
        *["tiered", "serve", "--host", "127.0.0.1", "--port", "8484", "--key", "laptop"],
    ]
    assert content["ProgramArguments"] == expected
    assert content["Label"] == "llm-tiered"
    assert content["KeepAlive"] == {"SuccessfulExit": False}
    variables = content["EnvironmentVariables"]
    assert isinstance(variables, dict)
    assert variables["HF_HOME"] == f"/{NASTY}"
    assert SECRET not in str(content)
    domain, path = f"gui/{os.getuid()}", f"{mac}/Library/LaunchAgents/llm-tiered.plist"
    assert f"  launchctl bootstrap {domain} {path}\n" in result.stdout
    assert (
        f"  launchctl bootout {domain}/llm-tiered\n  llm tiered serve --uninstall" in result.stdout
    )
    again = run("serve", "--install").stdout
    assert f"  launchctl bootout {domain}/llm-tiered\n  launchctl bootstrap" in again
    removed = run("serve", "--uninstall").stdout
    assert removed.endswith(f"if it still runs:\n  launchctl bootout {domain}/llm-tiered\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--key", f"laptop={SECRET}"), "takes only stored keys, and --key number 1 names none"),
        (("--key", "laptop", "--key", SECRET), "--key number 2 names none"),
        (("--port", "0"), "a service needs the same port each time"),
        (("--host", "0.0.0.0"), "clients need a key"),
        (("--host", "host.example"), "host.example can't be used"),
    ],
)
def test_refused(arguments: tuple[str, ...], message: str, home: Path) -> None:
    """What would not work later is an error now, which repeats no key."""
    said = refused("serve", "--install", *arguments)
    assert message in said
    assert SECRET not in said
    assert not (home / ".config").exists()


def test_neither(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without systemd and launchd, as in a container, another way is shown."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "(llm tiered serve --background)" in refused("serve", "--install")


def test_folder_that_cannot_be_made(home: Path) -> None:
    """A folder that can't be made is an error."""
    (home / ".config").touch()
    assert "llm-tiered.service can't be written" in refused("serve", "--install")


def test_key_that_is_gone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a key that is not stored any more never becomes a key itself."""
    monkeypatch.setenv("LLM_TIERED_SERVICE", "1")
    said = refused("serve", "--port", "0", "--key", "the-name-of-a-key")
    assert "takes only stored keys" in said


def test_llm_without_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where llm is no script, its module is run."""
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert units._llm() == ["/nowhere/python", "-m", "llm"]


def test_one_at_a_time() -> None:
    """Serving in the background and as a service are two things."""
    assert "only one of" in run("serve", "--install", "--background", code=2).stderr
