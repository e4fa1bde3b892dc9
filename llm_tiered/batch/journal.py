"""The journal of a batch: every answer as soon as it is complete, so a killed run can resume.

It is a file beside the output with one JSON object per line, and it only grows. A row counts as
answered once its answer is in the journal, so answers that wait for their turn in the output
survive a kill.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from .output import close_quietly, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .rows import BadRow, Row

_HEADER = {"journal": "llm tiered batch", "version": 1}

# Rows read to find out whether a journal belongs to this input.
LOOK_AHEAD = 1000

# Rows read to find out whether a batch is finished.
MOST_ANSWERED = 10_000


class Journal:
    """The answers to the rows of one input, by the keys of the rows.

    The caller closes it, which leaves the file in place. Raises RequestError if another run has
    it open or if this command did not write the output, OSError if it can't be read or written.
    """

    def __init__(self, output: Path, *, restart: bool) -> None:
        import filelock

        # It is beside the file itself: a link to that, such as /dev/stdout, may be anywhere.
        file = output.resolve()
        self.path = file.with_name(f"{file.name}.journal")
        self._output = output
        self._lock = filelock.FileLock(f"{self.path}.lock")
        self._offsets: dict[str, int] = {}
        self._unclaimed: set[str] = set()
        if not file.parent.is_dir():
            raise RequestError(f"there is no folder {output.parent}")
        with ExitStack() as stack:
            self._take_lock()
            stack.callback(self._release_lock)
            ours = restart or self.path.exists()
            if not ours and output.exists() and output.stat().st_size:
                raise RequestError(
                    f"{output} already exists and was not written by this command",
                    fix="choose another -o, or --restart to overwrite it",
                )
            self._file = self.path.open("a+b")
            stack.callback(close_quietly, self._file)
            self._load(restart=restart)
            self.close = stack.pop_all().close

    def add(self, row: Row, answer: dict[str, Any]) -> None:
        """Append an answer. Raises OSError."""
        self._file.write(encode({"key": row.key, "answer": answer}))
        self._file.flush()

    def find(self, row: Row) -> dict[str, Any] | None:
        """Return an earlier run's answer to the row, with the row's current line, or None."""
        offset = self._offsets.get(row.key)
        if offset is None:
            return None
        self._unclaimed.discard(row.key)
        return self._read(offset) | {"line": row.line}

    def unclaimed(self) -> Iterator[dict[str, Any]]:
        """Yield the answers of earlier runs that `find` has not returned in this run."""
        for key, offset in self._offsets.items():
            if key in self._unclaimed:
                yield self._read(offset)

    def check(self, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
        """Return the same rows. Raises RequestError if the journal belongs to other rows."""
        if not self._offsets:
            return rows
        beginning = []
        for row in rows:
            beginning.append(row)
            if getattr(row, "key", None) in self._offsets:
                return chain(beginning, rows)
            if len(beginning) == LOOK_AHEAD:
                break
        raise RequestError(
            f"{self._output} holds answers to other prompts, or to these with other settings",
            fix="choose another -o, or --restart to overwrite it",
        )

    def look_for_work(self, rows: Iterator[Row | BadRow]) -> tuple[Iterator[Row | BadRow], bool]:
        """Return the same rows, and whether any is left to ask a model.

        Of a long input whose first rows are all answered, the others are not looked at.
        """
        beginning = []
        for row in rows:
            beginning.append(row)
            key = getattr(row, "key", None)
            is_left = key is not None and key not in self._offsets
            if is_left or len(beginning) == MOST_ANSWERED:
                return chain(beginning, rows), True
        return iter(beginning), False

    def _take_lock(self) -> None:
        import filelock

        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            raise RequestError(f"another run is writing to {self._output}") from None

    def _release_lock(self) -> None:
        file = Path(self._lock.lock_file)
        if os.name != "nt":
            # While it is locked: or another run could lock the file that is then removed, and a
            # third one a new file.
            file.unlink(missing_ok=True)
        self._lock.release()
        if os.name == "nt":
            # A file that another run has open can't be removed.
            with suppress(PermissionError):
                file.unlink(missing_ok=True)

    def _load(self, *, restart: bool) -> None:
        expected = encode(_HEADER)
        self._file.seek(0)
        header = self._file.readline()
        if not expected.startswith(header):
            raise RequestError(f"{self.path} is in the way: it is not a journal of this command")
        if restart or header != expected:
            self._file.truncate(0)
            self._file.write(expected)
            self._file.flush()
            return
        end = len(header)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            if key := _key(line):
                self._offsets[key] = end
            end += len(line)
        # A killed process may have left half a line.
        self._file.truncate(end)
        self._unclaimed = set(self._offsets)

    def _read(self, offset: int) -> dict[str, Any]:
        self._file.seek(offset)
        entry = json.loads(self._file.readline())
        answer: dict[str, Any] = entry["answer"]
        return answer


def _key(line: bytes) -> str | None:
    """Return the key of an entry, or None if it is damaged and its row must be asked again."""
    try:
        entry = json.loads(line)
        return str(entry["key"]) if isinstance(entry["answer"], dict) else None
    except (ValueError, LookupError, TypeError):
        return None
