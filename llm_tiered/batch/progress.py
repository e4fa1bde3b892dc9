"""The progress of a batch on stderr: a bar, the rows that failed, and totals at the end."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..wording import cost_so_far, counted

if TYPE_CHECKING:
    import logging


@dataclass
class ModelUsage:
    """Answers, tokens and dollars of one model. `unpriced` counts answers of unknown price."""

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0

    def __str__(self) -> str:
        return ", ".join(
            [
                counted(self.answers, "answer"),
                f"{self.input_tokens:,} + {self.output_tokens:,} tokens",
                cost_so_far(self.cost, self.unpriced),
            ]
        )


class Progress:
    """Counts the rows of a batch and prints to stderr; the bar is shown only on a terminal.

    `total` is the number of rows, or None if unknown.
    """

    def __init__(self, total: int | None) -> None:
        from tqdm import tqdm

        self.rows = self.answered = self.failed = self.skipped = 0
        self._all = total
        self._by_model: dict[str, ModelUsage] = {}
        self._started = time.monotonic()
        # Without standard error, tqdm would take standard output.
        disable = None if sys.stderr else True
        self._bar = tqdm(
            total=total, unit="row", file=sys.stderr, disable=disable, dynamic_ncols=True
        )

    def add_answer(self, answer: dict[str, Any], cost: Decimal | None) -> None:
        """Count an answer. `cost` is in dollars, or None if unknown."""
        self.rows += 1
        self.answered += 1
        usage = self._by_model.setdefault(answer["model"], ModelUsage())
        usage.answers += 1
        usage.input_tokens += answer["input_tokens"] or 0
        usage.output_tokens += answer["output_tokens"] or 0
        usage.cost += cost or 0
        usage.unpriced += cost is None
        self._advance()

    def add_failure(self, failure: dict[str, Any]) -> None:
        """Count a row without an answer, and print the reason."""
        self.rows += 1
        self.failed += 1
        self.print(f"line {failure['line']}: {' '.join(failure['error'].split())}")
        self._advance()

    def add_skipped(self) -> None:
        """Count a row that an earlier run has answered."""
        self.rows += 1
        self.skipped += 1
        # It took no time and must not influence the estimate of the time left.
        if self._bar.total is not None:
            self._bar.total -= 1

    def print(self, line: str) -> None:
        """Print a line on stderr, above the bar; if nobody reads that any more, do nothing."""
        if sys.stderr:
            with suppress(OSError):
                self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """Remove the bar and print the totals."""
        with suppress(OSError):
            self._bar.close()
        seconds = time.monotonic() - self._started
        total = self._total()
        for model in sorted(self._by_model):
            self.print(f"{model}: {self._by_model[model]}")
        rows = counted(self.rows, "row")
        if self._all is not None and self.rows < self._all:
            rows = f"{self.rows:,} of {counted(self._all, 'row')}"
        self.print(
            f"{rows}: {self.answered:,} answered, {self.failed:,} failed, "
            f"{self.skipped:,} skipped as done; {total.input_tokens:,} + {total.output_tokens:,} "
            f"tokens, {cost_so_far(total.cost, total.unpriced)}, {seconds:.1f} s"
        )

    def _advance(self) -> None:
        if self._bar.disable:
            return
        total = self._total()
        speed = total.output_tokens / max(time.monotonic() - self._started, 0.001)
        money = cost_so_far(total.cost, total.unpriced)
        self._bar.set_postfix_str(f"{speed:,.0f} tokens/s, {money}", refresh=False)
        with suppress(OSError):
            self._bar.update()

    def _total(self) -> ModelUsage:
        total = ModelUsage()
        for usage in self._by_model.values():
            for name, value in vars(usage).items():
                setattr(total, name, getattr(total, name) + value)
        return total


class WarnOnce:
    """A logging filter that passes each warning about a model once, not once a row."""

    def __init__(self) -> None:
        self._seen: set[tuple[Any, ...]] = set()

    def __call__(self, record: logging.LogRecord) -> bool:
        """Whether the message and its first two arguments are new.

        The third argument, the reason, may differ only in a number of seconds.
        """
        arguments = record.args if isinstance(record.args, tuple) else ()
        warning = (record.msg, *arguments[:2])
        new = warning not in self._seen
        self._seen.add(warning)
        return new
