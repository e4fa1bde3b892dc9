"""Who is told how far a download is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Report: TypeAlias = Callable[[int, int], object]

# True shows a bar on stderr, False none, and None one on a terminal only; a function is called
# with the bytes so far and all bytes of a file.
Show: TypeAlias = bool | Report | None


def bar_class(base: type[Any], show: Show) -> type[Any]:
    """Return a class of progress bars, derived from tqdm's or the hub's."""

    class Bar(base):  # type: ignore[misc]  # its class is only known here
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs["disable"] = None if show is None else show is not True
            super().__init__(*args, **kwargs)
            self._done = int(kwargs.get("initial") or 0)
            self._size = int(kwargs.get("total") or 0)

        def update(self, n: float | None = 1) -> Any:
            if callable(show):
                self._done += int(n or 0)
                show(self._done, self._size)
            return super().update(n)

    return Bar
