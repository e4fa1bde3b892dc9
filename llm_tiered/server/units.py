"""The server as a service of the user: a unit of systemd on Linux, an agent of launchd on macOS.

Both start it when the user logs in, and again if it crashes. If it ends in order, it stays ended.
"""

from __future__ import annotations

import os
import plistlib
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from ..atomic import write_file
from ..config.settings import ENVIRONMENT
from ..errors import RequestError, TieredError
from ..paths import servers_folder
from .instances import SERVICE_VARIABLE, log_file

NAME = "llm-tiered"

# Variables without secrets that the service gets as they are now. A service knows nothing of the
# user's shell, and privacy may hang on one of them.
_KEPT = (
    *("LLM_USER_PATH", *ENVIRONMENT),
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)
_PATHS = ("LLM_USER_PATH", "HF_HOME", "HF_HUB_CACHE", "SSL_CERT_FILE", "SSL_CERT_DIR")

# Seconds until a crashed server is started again, and for answers when it is told to end.
_PAUSE = 5
_ANSWERS_WITHIN = 45


@dataclass(frozen=True)
class Service:
    """The file that makes the server a service.

    `enable`, `disable` and `log` are the commands that start it now and at each login, that undo
    this, and that show its log. `mark` is there as long as it is enabled, if that can be known.
    """

    path: Path
    content: bytes
    enable: tuple[str, ...]
    disable: tuple[str, ...]
    log: str
    mark: Path | None = None

    def install(self) -> None:
        """Write the file. Raises TieredError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Launchd makes the log file, but not its folder.
            servers_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(self.path, self.content)
        except OSError as error:
            raise TieredError(f"{self.path} can't be written: {error.strerror}") from None

    def uninstall(self) -> bool:
        """Remove the file, and return whether it was there.

        Raises RequestError if it is still enabled, or TieredError.
        """
        if self.mark and self.mark.is_symlink():
            raise RequestError("the service is still enabled", fix="; ".join(self.disable))
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise TieredError(f"{self.path} can't be removed: {error.strerror}") from None
        return True


def service(arguments: list[str]) -> Service:
    """Return the service that runs `llm tiered serve` with these arguments.

    Raises RequestError if this machine has neither systemd nor launchd.
    """
    command = [*_llm(), "tiered", "serve", *arguments]
    if sys.platform == "darwin":
        return _agent(command)
    if shutil.which("systemctl"):
        return _unit(command)
    raise RequestError(
        "this machine has neither systemd nor launchd", fix="llm tiered serve --background"
    )


def _unit(command: list[str]) -> Service:
    """The unit of systemd. See systemd.service(5) and systemd.kill(5)."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd/user"
    if re.search(r"""["'*?\[\]\\]""", command[0]):
        # Systemd takes no such program, but any argument.
        command = ["/usr/bin/env", *command]
    program, *arguments = command
    # Only in arguments is $ the beginning of a variable.
    words = [_quote(program), *(_quote(argument.replace("$", "$$")) for argument in arguments)]
    variables = [f"Environment={_quote(f'{name}={value}')}" for name, value in _variables().items()]
    lines = [
        "[Unit]",
        "Description=OpenAI-compatible server of llm-tiered",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={' '.join(words)}",
        *variables,
        "WorkingDirectory=/",
        "Restart=on-failure",
        f"RestartSec={_PAUSE}",
        "# The engine with the local models serves other programs too, and ends by itself.",
        "KillMode=process",
        f"TimeoutStopSec={_ANSWERS_WITHIN}",
        "",
        "[Install]",
        "WantedBy=default.target",
        "",
    ]
    control = "systemctl --user"
    return Service(
        path=folder / f"{NAME}.service",
        content="\n".join(lines).encode(),
        enable=(
            f"{control} daemon-reload",
            f"{control} enable {NAME}",
            f"{control} restart {NAME}",
        ),
        disable=(f"{control} disable --now {NAME}",),
        log=f"journalctl --user -u {NAME}",
        mark=folder / "default.target.wants" / f"{NAME}.service",
    )


def _agent(command: list[str]) -> Service:
    """The agent of launchd. See launchd.plist(5)."""
    path = Path.home() / "Library" / "LaunchAgents" / f"{NAME}.plist"
    log = str(log_file())
    content = {
        "Label": NAME,
        "ProgramArguments": command,
        "EnvironmentVariables": _variables(),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": _PAUSE,
        "ExitTimeOut": _ANSWERS_WITHIN,
        # Other types get less of the processor.
        "ProcessType": "Interactive",
        "AbandonProcessGroup": True,
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    domain = f"gui/{os.getuid()}"
    end = f"launchctl bootout {domain}/{NAME}"
    again = (end,) if path.exists() else ()
    return Service(
        path=path,
        content=plistlib.dumps(content, sort_keys=False),
        enable=(*again, f"launchctl bootstrap {domain} {shlex.quote(str(path))}"),
        disable=(end,),
        log=f"tail -f {shlex.quote(log)}",
    )


def _llm() -> list[str]:
    """The command that is llm: as it was called, which outlives updates, or else by its Python."""
    called = Path(sys.argv[0])
    beside = Path(sys.executable).with_name("llm")
    for script in (called.absolute(), beside):
        if script.name == "llm" and os.access(script, os.X_OK) and script.is_file():
            return [str(script)]
    return [sys.executable, "-m", "llm"]


def _variables() -> dict[str, str]:
    """The variables that the service gets."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    absolute = {name: os.path.abspath(kept[name]) for name in _PATHS if kept.get(name)}
    return kept | absolute | {SERVICE_VARIABLE: "1"}


def _quote(text: str) -> str:
    """Return a word of a unit, in quotes if it needs them; % begins a specifier of systemd."""
    text = text.replace("%", "%%")
    if re.fullmatch(r"[A-Za-z0-9_./:=@%+,-]+", text):
        return text
    for character, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        text = text.replace(character, escape)
    return f'"{text}"'
