"""Amounts in the JSON of a report → text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from .. import wording


def money(amount: dict[str, Any]) -> str:
    """Return dollars, and for how many requests the price is unknown."""
    unknown = "" if amount["dollars"] is None else unpriced(amount)
    return dollars(amount) + (unknown and f", {unknown}")


def dollars(amount: dict[str, Any]) -> str:
    """Return the dollars for the requests whose price is known, or "unknown"."""
    return wording.dollars(None if amount["dollars"] is None else Decimal(amount["dollars"]))


def unpriced(amount: dict[str, Any]) -> str:
    """Return for how many requests the price is unknown, or "" if it is known for all."""
    requests = amount["unpriced_requests"]
    return f"price unknown for {requests:,}" if requests else ""
