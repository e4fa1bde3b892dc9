"""Where the answers go: one JSON object a line."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def encode(value: dict[str, Any]) -> bytes:
    """A line of JSON, as UTF-8."""
    # Half a surrogate pair, which JSON can hold and UTF-8 can't, stays an escape.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


class Output:
    """The lines of answers, each complete as soon as it is written.

    What an earlier run wrote into the file is kept as far as it is the same, and cut off where
    it is not.
    """

    def __init__(self, file: BinaryIO, *, old: bool = False) -> None:
        self._file = file
        self._old = old

    def write(self, answer: dict[str, Any]) -> None:
        """Put an answer behind those before it. Raises OSError."""
        line = encode(answer)
        if self._old:
            at = self._file.tell()
            if self._file.readline() == line:
                return
            self._file.seek(at)
            self.cut()
        self._file.write(line)
        self._file.flush()

    def cut(self) -> None:
        """Remove what an earlier run wrote beyond this place."""
        if self._old:
            self._file.truncate()
            self._old = False


@contextmanager
def open_output(path: Path, *, restart: bool) -> Iterator[Output]:
    """A file for answers. Raises OSError."""
    old = path.is_file() and not restart
    file = path.open("r+b" if old else "wb")
    try:
        yield Output(file, old=old)
    except BaseException:
        close_quietly(file)
        raise
    file.close()


def close_quietly(file: BinaryIO) -> None:
    """Close a file. What a full disk did not take is tried again now, and has been told before."""
    with suppress(OSError):
        file.close()
