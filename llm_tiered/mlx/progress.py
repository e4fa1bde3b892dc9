"""What happens before an answer begins, shown on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..wording import gigabytes
from .engine.requests import Loading, Prefill, Waiting

if TYPE_CHECKING:
    from .engine.requests import Progress

# Tokens of a prompt; shorter ones are read before anyone notices the wait.
LONG = 1024


class PrefillBar:
    """A progress bar on stderr that disappears when the answer begins."""

    def __init__(self) -> None:
        self._bar: Any = None

    def show(self, done: int, total: int) -> None:
        """Show that `done` of the prompt's `total` tokens have been read."""
        if total < LONG:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, desc="reading the prompt", unit=" tokens", leave=False, disable=None
            )
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class ProgressLine:
    """A line on stderr that disappears when the answer begins: what it waits for."""

    def __init__(self) -> None:
        self._bar = PrefillBar()
        self._line: Any = None

    def show(self, progress: Progress) -> None:
        """Show what happens."""
        if isinstance(progress, Prefill):
            self._clear()
            self._bar.show(progress.done, progress.total)
        elif isinstance(progress, Loading):
            size = f" ({gigabytes(progress.size)})" if progress.size else ""
            self._say(f"loading {progress.model}{size}")
        elif isinstance(progress, Waiting):
            others = "another answer" if progress.ahead == 1 else f"{progress.ahead} other answers"
            self._say(f"waiting for {others}")
        else:
            self._clear()

    def close(self) -> None:
        """Remove the line from the terminal."""
        self._clear()
        self._bar.close()

    def _say(self, text: str) -> None:
        if not sys.stderr.isatty():
            return
        self._clear()
        from tqdm import tqdm

        self._line = tqdm(total=0, desc=text, bar_format="{desc}", leave=False)

    def _clear(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
