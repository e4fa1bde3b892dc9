"""Numbers as people read them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from .. import wording


def money(amount: dict[str, Any]) -> str:
    """Dollars out of a report; what is not known is said."""
    more = "" if amount["dollars"] is None else unpriced(amount)
    return dollars(amount) + (more and f", {more}")


def dollars(amount: dict[str, Any]) -> str:
    """Dollars out of a report, of those requests whose price is known."""
    return wording.dollars(None if amount["dollars"] is None else Decimal(amount["dollars"]))


def unpriced(amount: dict[str, Any]) -> str:
    """For how many requests the price is not known; nothing where it is for all."""
    requests = amount["unpriced_requests"]
    return f"price unknown for {requests:,}" if requests else ""
