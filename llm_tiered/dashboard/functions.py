"""SQL functions for the queries behind the charts: they price what SQL adds up."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from ..costs import prices
from ..costs.charges import LoggedUsage, cost_of_usage
from ..costs.requests import without_numbers
from ..log.database import has_requests, has_table
from .access import MIGRATIONS

if TYPE_CHECKING:
    from decimal import Decimal


def register(connection: sqlite3.Connection) -> None:
    """Add the functions to a connection with llm's log; leave any other as it is."""
    try:
        if not has_table(connection, MIGRATIONS) or not has_requests(connection):
            return
    except sqlite3.DatabaseError:
        # No database, or a locked one: Datasette tells of it in its own words.
        return
    for name, arguments, function in (
        ("tiered_cost", 7, cost),
        ("tiered_cloud_cost", 8, cloud_cost),
        ("tiered_reason", 1, reason),
    ):
        connection.create_function(name, arguments, function, deterministic=True)


def cost(  # noqa: PLR0913, PLR0917 - what SQL calls it with
    model: str | None,
    version: str | None,
    utc_day: str,
    requests: int,
    input_tokens: int | None,
    output_tokens: int | None,
    token_details: str | None,
) -> float | None:
    """Dollars for requests to a model on a day, or None if nobody knows."""
    usage = LoggedUsage(
        model, version, utc_day, input_tokens, output_tokens, token_details, requests
    )
    return _number(cost_of_usage(usage))


def cloud_cost(  # noqa: PLR0913, PLR0917 - what SQL calls it with
    cloud_model: str | None,
    model: str | None,
    version: str | None,
    utc_day: str,
    requests: int,
    input_tokens: int | None,
    output_tokens: int | None,
    token_details: str | None,
) -> float | None:
    """What the same tokens would have cost on the cloud model; what it answered, what it did."""
    # The price of a local model as the cloud model is unknown, not zero.
    if not cloud_model or prices.is_local(cloud_model):
        return None
    went_there = model and prices.same_model(model, cloud_model)
    usage = LoggedUsage(
        model if went_there else cloud_model,
        version if went_there else None,
        utc_day,
        input_tokens,
        output_tokens,
        token_details,
        requests,
    )
    return _number(cost_of_usage(usage))


def reason(text: str | None) -> str | None:
    """Why a request fell back, without the numbers that differ from one time to the next."""
    return text and without_numbers(str(text))


def _number(cost: Decimal | None) -> float | None:
    return None if cost is None else float(cost)
