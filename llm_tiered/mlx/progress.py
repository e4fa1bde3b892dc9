"""How far a long prompt has been read, on a terminal."""

from __future__ import annotations

from typing import Any

# Shorter prompts are read before anybody wonders.
LONG = 1024


class PrefillBar:
    """A progress bar on stderr, which goes away when the answer begins."""

    def __init__(self) -> None:
        self._bar: Any = None

    def show(self, done: int, total: int) -> None:
        """Show that so many of the prompt's tokens have been read."""
        if total < LONG:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, desc="reading the prompt", unit=" tokens", leave=False, disable=None
            )
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
