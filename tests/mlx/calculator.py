"""A tool for models to call."""

from __future__ import annotations

from typing import Any

import llm


class Calculator:
    """A tool that records the arguments of its calls."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def double(self, number: int) -> int:
        """Twice the number."""
        self.numbers.append(number)
        return 2 * number

    @property
    def tools(self) -> list[Any]:
        """The tool in llm's form."""
        return [llm.Tool.function(self.double)]
