"""The price that the config gives a model; it is logged with each answer."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple


class ConfigPrice(NamedTuple):
    """Dollars per million tokens of the prompt and of the answer, or else per hour of answering."""

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    hour: Decimal | None = None

    def cost(
        self, input_tokens: int | None, output_tokens: int | None, ms: int | None
    ) -> Decimal | None:
        """Return dollars, or None if the tokens, or the time at an hourly price, are unknown.

        `ms` is the time that the answers took in all, in milliseconds.
        """
        if self.hour is not None:
            return None if ms is None else self.hour * ms / 3_600_000
        if input_tokens is None or output_tokens is None:
            return None
        return (self.input * input_tokens + self.output * output_tokens) / 1_000_000

    def to_json(self) -> dict[str, str]:
        """Return the form in the log and the config; amounts are text, so they are not rounded."""
        if self.hour is not None:
            return {"hour": str(self.hour)}
        return {"input": str(self.input), "output": str(self.output)}

    def to_text(self) -> str:
        """Return it as JSON text."""
        return json.dumps(self.to_json())

    @classmethod
    def from_json(cls, value: Any) -> ConfigPrice | None:
        """Return the price that was logged, or None if there is none, or a damaged one."""
        if not isinstance(value, dict):
            return None
        try:
            amounts = {name: Decimal(amount) for name, amount in value.items()}
            price = cls(**amounts)
        except (InvalidOperation, TypeError, ValueError):
            return None
        return price if amounts and all(each.is_finite() for each in amounts.values()) else None

    @classmethod
    def from_text(cls, text: Any) -> ConfigPrice | None:
        """Return the price in a JSON text, or None as `from_json`."""
        return _from_text(text) if isinstance(text, str) else None


@lru_cache(maxsize=1000)
def _from_text(text: str) -> ConfigPrice | None:
    try:
        return ConfigPrice.from_json(json.loads(text))
    except (ValueError, RecursionError):
        return None
