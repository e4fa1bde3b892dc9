"""The output of a batch: one JSON object per line, in the order of the rows."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def encode(value: dict[str, Any]) -> bytes:
    """Return a line of JSON, in UTF-8."""
    # JSON can hold a lone surrogate and UTF-8 can't: it stays an escape.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


class Output:
    """Lines of answers, each complete as soon as it is written.

    With `old`, the file may hold the output of an earlier run: it is kept up to the first line
    that differs, and replaced from there.
    """

    def __init__(self, file: BinaryIO, *, old: bool = False) -> None:
        self._file = file
        self._old = old

    def write(self, answer: dict[str, Any]) -> None:
        """Append an answer. Raises OSError."""
        line = encode(answer)
        if self._old:
            start = self._file.tell()
            if self._file.readline() == line:
                return
            self._file.seek(start)
            self.cut()
        self._file.write(line)
        self._file.flush()

    def cut(self) -> None:
        """Remove the lines of an earlier run that follow the last answer."""
        if self._old:
            self._file.truncate()
            self._old = False


@contextmanager
def open_output(path: Path, *, restart: bool) -> Iterator[Output]:
    """Open a file for answers. Raises OSError."""
    old = path.is_file() and not restart
    file = path.open("r+b" if old else "wb")
    try:
        yield Output(file, old=old)
    except BaseException:
        close_quietly(file)
        raise
    file.close()


def close_quietly(file: BinaryIO) -> None:
    """Close a file and ignore the error of a full disk, which `write` has raised before."""
    with suppress(OSError):
        file.close()


class RowOrder:
    """Puts answers that arrive in any order back into the order of their rows."""

    def __init__(self) -> None:
        self._waiting: dict[int, dict[str, Any]] = {}
        self._next = 0

    def add(self, place: int, answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Add the answer to row number `place`, from 0; yield the answers whose turn has come."""
        self._waiting[place] = answer
        while self._next in self._waiting:
            yield self._waiting.pop(self._next)
            self._next += 1

    def waiting(self) -> list[dict[str, Any]]:
        """Return the answers that still wait for an earlier row, in order."""
        return [self._waiting[place] for place in sorted(self._waiting)]
