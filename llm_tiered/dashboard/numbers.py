"""Numbers as people read them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ..costs import prices


def money(amount: dict[str, Any]) -> str:
    """Dollars out of a report; what is not known is said."""
    more = "" if amount["dollars"] is None else unpriced(amount)
    return dollars(amount) + (more and f", {more}")


def dollars(amount: dict[str, Any]) -> str:
    """Dollars out of a report, of those requests whose price is known."""
    return prices.dollars(None if amount["dollars"] is None else Decimal(amount["dollars"]))


def unpriced(amount: dict[str, Any]) -> str:
    """For how many requests the price is not known; nothing where it is for all."""
    requests = amount["unpriced_requests"]
    return f"price unknown for {requests:,}" if requests else ""


def percent(share: float | None) -> str:
    """A share that goes from 0 to 1."""
    return "unknown" if share is None else f"{share:.1%}"


def seconds(milliseconds: float | None) -> str:
    """A time."""
    return "unknown" if milliseconds is None else f"{milliseconds / 1000:,.2f} s"


def number(value: float | None) -> str:
    """A whole number."""
    return "unknown" if value is None else f"{value:,}"
