"""SQL functions for the queries behind the charts: prices, and reasons without numbers."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

from ..config.price import ConfigPrice
from ..costs.charges import LoggedUsage, cost_of_usage
from ..costs.prices import is_local, same_model
from ..costs.requests import without_numbers
from ..log.database import has_requests, has_table
from .access import MIGRATIONS


def register(connection: sqlite3.Connection) -> None:
    """Add the functions to a connection with llm's log; leave any other connection alone."""
    try:
        if not has_table(connection, MIGRATIONS) or not has_requests(connection):
            return
    except sqlite3.DatabaseError:
        # A locked file, or one that is not a database: Datasette reports it itself.
        return
    for name, arguments, function in (
        ("tiered_cost", 7, cost),
        ("tiered_cloud_cost", 8, cloud_cost),
        ("tiered_own_cost", 4, own_cost),
        ("tiered_reason", 1, reason),
    ):
        connection.create_function(name, arguments, function, deterministic=True)


def cost(model: str | None, version: str | None, *usage: Any) -> float | None:
    """Return the dollars for requests to a model on a day, or None if unknown.

    `usage` are the day, the requests, their input and output tokens, and the token details.
    """
    return _dollars(_usage(model, version, *usage))


def cloud_cost(
    cloud_model: str | None, model: str | None, version: str | None, *usage: Any
) -> float | None:
    """Return the dollars for the same tokens on the cloud model, or None if unknown.

    An answer of the cloud model itself has the price that was paid for it.
    """
    # The price of a local model as the cloud model is unknown, not zero.
    if not cloud_model or is_local(cloud_model):
        return None
    if model and same_model(model, cloud_model):
        return cost(model, version, *usage)
    return _dollars(replace(_usage(cloud_model, None, *usage), counted_by=model))


def own_cost(
    price: str | None, input_tokens: int | None, output_tokens: int | None, ms: int | None
) -> float | None:
    """Return the dollars at a logged price of the config, or None if unknown."""
    own = ConfigPrice.from_text(price)
    dollars = own.cost(input_tokens, output_tokens, ms) if own else None
    return None if dollars is None else float(dollars)


def reason(text: str | None) -> str | None:
    """Return why a request fell back, without the numbers that differ each time."""
    return text and without_numbers(str(text))


def _dollars(usage: LoggedUsage) -> float | None:
    dollars = cost_of_usage(usage)
    return None if dollars is None else float(dollars)


def _usage(  # noqa: PLR0913, PLR0917 - the arguments that SQL passes
    model: str | None,
    version: str | None,
    utc_day: str | None,
    requests: int,
    input_tokens: int | None,
    output_tokens: int | None,
    token_details: str | None,
) -> LoggedUsage:
    return LoggedUsage(
        model, version, utc_day, input_tokens, output_tokens, token_details, requests
    )
