"""Where the engine's socket and the files beside it are: one set for each user and host."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from ...paths import engine_folder

# Bytes of a socket's path. macOS has room for 104 and Linux for 108, with a zero at the end.
LONGEST = 103


@dataclass(frozen=True)
class EngineFiles:
    """A folder that can hold an engine's files, all of which begin with the same name."""

    folder: Path
    name: str

    @cached_property
    def socket(self) -> Path:
        """The socket on which the engine listens."""
        return self.folder / f"{self.name}.sock"

    @cached_property
    def lock(self) -> Path:
        """The file that the engine holds a lock on for as long as it lives."""
        return self.folder / f"{self.name}.lock"

    @cached_property
    def log(self) -> Path:
        """What the engine, and the libraries in it, write to stdout and stderr."""
        return self.folder / f"{self.name}.log"

    @cached_property
    def crashes(self) -> Path:
        """The list of models that an engine was working on when it died."""
        return self.folder / f"{self.name}.crashes.jsonl"

    def has_socket(self) -> bool:
        """Whether there is a socket that only this user can have made."""
        try:
            return _is_private(self.folder) and self.socket.lstat().st_uid == os.geteuid()
        except OSError:
            return False

    def prepare(self) -> None:
        """Make the folder, for this user only. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(self.folder):
            # Somebody else's is left alone: this raises an error then.
            self.folder.chmod(0o700)
        if not _is_private(self.folder):
            raise PermissionError(f"{self.folder} is not a folder of this user alone")


def places() -> tuple[EngineFiles, ...]:
    """Return the places where the engine can be, the best first.

    The second one, among the temporary files, is for a user directory that is read-only, or whose
    path is too long, or that can't hold sockets. Raises OSError if there is no user directory.
    """
    if sys.platform == "win32":
        # Where MLX does not run either.
        return ()
    folder = engine_folder()
    if not folder.is_absolute():
        folder = folder.absolute()
    return _places(str(folder), tempfile.gettempdir(), socket.gethostname())


# A batch asks for them with each row.
@lru_cache(maxsize=16)
def _places(engine: str, temp: str, machine: str) -> tuple[EngineFiles, ...]:
    folder, host = Path(engine), _host(machine)
    temporary = Path(temp).absolute() / f"llm-tiered-{os.geteuid()}"
    both = (EngineFiles(folder, host), EngineFiles(temporary, _digest(f"{host} {folder}")))
    return tuple(place for place in both if len(os.fsencode(place.socket)) <= LONGEST)


def _host(machine: str) -> str:
    """Return a short form of a machine's name: home folders may be shared by several."""
    name = machine.partition(".")[0]
    if re.fullmatch(r"[A-Za-z0-9-]{1,16}", name):
        return name
    return f"{re.sub('[^A-Za-z0-9]', '', name)[:9]}-{_digest(name)[:6]}"


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _is_private(folder: Path) -> bool:
    status = folder.lstat()
    mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return mine and not status.st_mode & 0o077
