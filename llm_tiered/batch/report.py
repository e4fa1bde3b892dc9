"""What a batch has done so far: a progress bar, the rows that failed, and the sum at the end."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from .. import gemini
from ..costs import prices
from ..wording import cost_so_far, counted

if TYPE_CHECKING:
    import logging

    from llm.models import _BaseResponse


@dataclass
class Usage:
    """What one model did. `unpriced` counts answers whose price nobody knows."""

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


class Report:
    """Everything goes to stderr; the bar is there on a terminal only.

    `total` is the number of rows, None where nobody has counted them.
    """

    def __init__(self, total: int | None) -> None:
        from tqdm import tqdm

        self.rows = self.answered = self.failed = self.skipped = 0
        self._by_model: dict[str, Usage] = {}
        self._started = time.monotonic()
        self._bar = tqdm(total=total, unit="row", file=sys.stderr, disable=None, dynamic_ncols=True)

    def add_answer(self, answer: dict[str, Any], cost: Decimal | None) -> None:
        """Count an answer; `cost` is dollars, None if nobody knows."""
        self.rows += 1
        self.answered += 1
        usage = self._by_model.setdefault(answer["model"], Usage())
        usage.answers += 1
        usage.input_tokens += answer["input_tokens"] or 0
        usage.output_tokens += answer["output_tokens"] or 0
        usage.cost += cost or 0
        usage.unpriced += cost is None
        self._advance()

    def add_failure(self, failure: dict[str, Any]) -> None:
        """Count a row that has no answer, and say why."""
        self.rows += 1
        self.failed += 1
        self.say(f"line {failure['line']}: {' '.join(failure['error'].split())}")
        self._advance()

    def add_skipped(self) -> None:
        """Count a row that an earlier run has answered."""
        self.rows += 1
        self.skipped += 1
        # It took no time, and says nothing of the time that the others will take.
        if self._bar.total is not None:
            self._bar.total -= 1

    def say(self, line: str) -> None:
        """Print a line on stderr, above the bar."""
        self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """Print the sum of it all."""
        self._bar.close()
        seconds = time.monotonic() - self._started
        total = self._total()
        for model in sorted(self._by_model):
            self.say(f"{model}: {self._by_model[model]}")
        self.say(
            f"{counted(self.rows, 'row')}: {self.answered:,} answered, {self.failed:,} failed, "
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
        self._bar.update()

    def _total(self) -> Usage:
        total = Usage()
        for usage in self._by_model.values():
            for name, value in vars(usage).items():
                setattr(total, name, getattr(total, name) + value)
        return total


class Once:
    """A filter that lets each warning about a model through once, not once a row."""

    def __init__(self) -> None:
        self._seen: set[tuple[Any, ...]] = set()

    def __call__(self, record: logging.LogRecord) -> bool:
        """Whether it is new: its words and first two values, as reasons tell of seconds left."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        said = (record.msg, *arguments[:2])
        new = said not in self._seen
        self._seen.add(said)
        return new


def cost(response: _BaseResponse) -> Decimal | None:
    """Dollars for a finished response, or None if nobody knows."""
    model = response.resolved_model or response.model.model_id
    said: dict[str, Any] = response.response_json or {}
    if "tiered" in said:
        said = said["response"] or {}
    details = json.dumps(response.token_details) if response.token_details else None
    try:
        tokens = prices.count(response.input_tokens or 0, response.output_tokens or 0, details)
    except ValueError:
        return None
    return prices.cost(prices.with_version(model, gemini.model_version(said)), tokens)
