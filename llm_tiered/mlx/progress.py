"""A progress bar for the prefill of a long prompt."""

from __future__ import annotations

from typing import Any

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
