"""What the config says that a model costs, as it is kept with each of its answers."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple


class OwnPrice(NamedTuple):
    """Dollars per million tokens of the prompt and of the answer, or else per hour of answering."""

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    hour: Decimal | None = None

    def cost(
        self, input_tokens: int | None, output_tokens: int | None, ms: int | None
    ) -> Decimal | None:
        """Return the dollars for answers that took `ms` in all; None if what counts is unknown."""
        if self.hour is not None:
            return None if ms is None else self.hour * ms / 3_600_000
        if input_tokens is None or output_tokens is None:
            return None
        return (self.input * input_tokens + self.output * output_tokens) / 1_000_000

    def to_json(self) -> dict[str, str]:
        """Return what is logged; amounts are text, so that they are not rounded."""
        if self.hour is not None:
            return {"hour": str(self.hour)}
        return {"input": str(self.input), "output": str(self.output)}

    def to_text(self) -> str:
        """Return it as JSON text."""
        return json.dumps(self.to_json())

    @classmethod
    def of(cls, tokens: tuple[Decimal, Decimal] | None, hour: Decimal | None) -> OwnPrice | None:
        """Return the price in the config: for tokens, or per hour, or None."""
        if hour is not None:
            return cls(hour=hour)
        return cls(*tokens) if tokens else None

    @classmethod
    def from_json(cls, value: Any) -> OwnPrice | None:
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
    def from_text(cls, text: Any) -> OwnPrice | None:
        """Return the price in a JSON text, or None as `from_json`."""
        return _from_text(text) if isinstance(text, str) else None


@lru_cache(maxsize=1000)
def _from_text(text: str) -> OwnPrice | None:
    try:
        return OwnPrice.from_json(json.loads(text))
    except (ValueError, RecursionError):
        return None
