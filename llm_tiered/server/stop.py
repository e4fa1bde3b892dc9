"""Where a text ends."""

from __future__ import annotations


class Stop:
    """Ends a text before the first of some texts, for models that can't do that themselves."""

    def __init__(self, stops: list[str]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=1)
        self._kept = ""
        self.has_ended = False

    def take(self, text: str) -> str:
        """Return what of the text so far is certain to come before the end."""
        if self.has_ended or not self._stops:
            return "" if self.has_ended else text
        self._kept += text
        places = [at for stop in self._stops if (at := self._kept.find(stop)) >= 0]
        if places:
            self.has_ended = True
            return self._kept[: min(places)]
        # The rest might be the beginning of one of them.
        certain = len(self._kept) - self._longest + 1
        shown, self._kept = self._kept[: max(certain, 0)], self._kept[max(certain, 0) :]
        return shown

    def rest(self) -> str:
        """Return what is left at the end of the text."""
        kept, self._kept = self._kept, ""
        return "" if self.has_ended else kept
