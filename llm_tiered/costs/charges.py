"""What logged requests and finished responses cost, in dollars."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..log.record import Record, inner_response
from .prices import Charge, count_tokens, place_of, price_list, version_of, with_version

if TYPE_CHECKING:
    from llm.models import _BaseResponse

    from ..config.price import ConfigPrice


@dataclass(frozen=True)
class LoggedUsage:
    """The columns of the log that decide the cost of a request, or of several at the same price.

    Tokens are sums over all the requests. `version` is what the service calls the model that
    answered. `datetime_utc` begins with the day in ISO format. `token_details` is JSON, and only a
    single request has it. `counted_by` is the model that counted the tokens, if it is another one.
    `place` is where the model runs, as logged, and `price` what the config says that it costs, if
    it does; an hourly one is for the `ms` that the answer took.
    """

    model: str | None
    version: str | None
    datetime_utc: Any
    input_tokens: Any
    output_tokens: Any
    token_details: str | None = None
    requests: int = 1
    counted_by: str | None = None
    place: Any = None
    price: ConfigPrice | None = None
    ms: Any = None


def cost_of_usage(usage: LoggedUsage) -> Decimal | None:
    """Return dollars, or None if the price, the tokens or the day is unknown or damaged.

    A model on one of the user's machines costs nothing, unless the config says what.
    """
    charge = charge_for_usage(usage)
    return None if charge is None or charge.unpriced else charge.dollars


def charge_for_usage(usage: LoggedUsage) -> Charge | None:
    """Return the dollars as far as they are known; None as for `cost_of_usage`.

    If the version that answered has no price, they are those of the model that was asked.
    """
    counts = (usage.input_tokens, usage.output_tokens)
    if usage.price:
        inputs, outputs = map(_count, counts)
        dollars = usage.price.cost(inputs, outputs, _count(usage.ms))
        return None if dollars is None else Charge(dollars)
    if place_of(usage.model, usage.place) != "cloud":
        return Charge(Decimal(0))
    if not usage.model or not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    try:
        tokens = count_tokens(*counts, usage.token_details, usage.counted_by)
        day = date.fromisoformat(str(usage.datetime_utc)[:10])
        prices = price_list(with_version(usage.model, usage.version), day)
        as_asked = price_list(usage.model, day)
    except (ValueError, TypeError, AttributeError):
        return None
    if prices is None and as_asked and usage.version:
        charge = as_asked.charge(tokens, usage.requests)
        return charge._replace(unpriced=(*charge.unpriced, usage.version))
    return None if prices is None else prices.charge(tokens, usage.requests)


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def cost_of_response(response: _BaseResponse) -> Decimal | None:
    """Return the dollars for a response that has just finished, or None if unknown."""
    details = response.token_details
    input_tokens, output_tokens = response.input_tokens, response.output_tokens
    if input_tokens is not None or output_tokens is not None:
        # A service that counts one of them has none of the other.
        input_tokens, output_tokens = input_tokens or 0, output_tokens or 0
    record = Record.from_json(response.response_json) or Record()
    if record.cached_from:
        return Decimal(0)
    began, ended = response._start, response._end
    return cost_of_usage(
        LoggedUsage(
            model=response.resolved_model or response.model.model_id,
            version=version_of(inner_response(response.response_json)),
            datetime_utc=datetime.now(timezone.utc).date(),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            token_details=json.dumps(details) if details else None,
            place=record.place,
            price=record.price,
            ms=round((ended - began) * 1000) if began and ended else None,
        )
    )
