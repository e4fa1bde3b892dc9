"""The journal of a batch: each answer as soon as it is there, to go on after being killed.

It is a file beside the output, one JSON object a line, and only ever grows. An answer counts as
had once its line is in it, so that those that wait for their place in the output are not lost.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from .output import close_quietly, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .rows import BadRow, Row

_HEADER = {"journal": "llm tiered batch", "version": 1}

# Rows that are read to find out whether a journal is about them.
LOOK_AHEAD = 1000


class Journal:
    """The answers to the rows of one input, by the rows' keys.

    To be closed, which leaves the file where it is. Raises RequestError if another run has it
    open or the output is not one of this command's, OSError if it can't be read or written.
    """

    def __init__(self, output: Path, *, restart: bool) -> None:
        import filelock

        self.path = output.with_name(f"{output.name}.journal")
        self._output = output
        self._lock = filelock.FileLock(f"{self.path}.lock")
        self._at: dict[str, int] = {}
        self._left: set[str] = set()
        if not output.parent.is_dir():
            raise RequestError(f"there is no folder {output.parent}")
        with ExitStack() as stack:
            self._take_lock()
            stack.callback(self._release_lock)
            known = restart or self.path.exists()
            if not known and output.exists() and output.stat().st_size:
                raise RequestError(
                    f"{output} is there already, and is no work of this command's",
                    fix="another -o, or --restart to overwrite it",
                )
            self._file = self.path.open("a+b")
            stack.callback(close_quietly, self._file)
            self._load(restart=restart)
            self.close = stack.pop_all().close

    def add(self, row: Row, answer: dict[str, Any]) -> None:
        """Keep an answer. Raises OSError."""
        self._file.write(encode({"key": row.key, "answer": answer}))
        self._file.flush()

    def find(self, row: Row) -> dict[str, Any] | None:
        """The answer to the row that an earlier run has had, or None."""
        at = self._at.get(row.key)
        if at is None:
            return None
        self._left.discard(row.key)
        # The row may have moved since.
        return self._read(at) | {"line": row.line}

    def left(self) -> Iterator[dict[str, Any]]:
        """The answers that earlier runs have had and nobody has found in this one."""
        for key, at in self._at.items():
            if key in self._left:
                yield self._read(at)

    def check(self, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
        """The same rows. Raises RequestError if the answers kept are to other ones."""
        if not self._at:
            return rows
        read = []
        for row in rows:
            read.append(row)
            if getattr(row, "key", None) in self._at:
                return chain(read, rows)
            if len(read) == LOOK_AHEAD:
                break
        raise RequestError(
            f"{self._output} holds answers to other prompts, or to these with other settings",
            fix="another -o, or --restart to overwrite it",
        )

    def _take_lock(self) -> None:
        import filelock

        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            raise RequestError(f"another run is writing to {self._output}") from None

    def _release_lock(self) -> None:
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def _load(self, *, restart: bool) -> None:
        whole = encode(_HEADER)
        self._file.seek(0)
        header = self._file.readline()
        if not whole.startswith(header):
            raise RequestError(f"{self.path} is in the way: it is no journal of this command's")
        if restart or header != whole:
            self._file.truncate(0)
            self._file.write(whole)
            self._file.flush()
            return
        end = len(header)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            if key := _key(line):
                self._at[key] = end
            end += len(line)
        # What comes after is a line that a killed process did not finish.
        self._file.truncate(end)
        self._left = set(self._at)

    def _read(self, at: int) -> dict[str, Any]:
        self._file.seek(at)
        entry = json.loads(self._file.readline())
        answer: dict[str, Any] = entry["answer"]
        return answer


def _key(line: bytes) -> str | None:
    """The key of an entry; None if it is damaged, and the row has to be asked again."""
    try:
        entry = json.loads(line)
        return str(entry["key"]) if isinstance(entry["answer"], dict) else None
    except (ValueError, LookupError, TypeError):
        return None
