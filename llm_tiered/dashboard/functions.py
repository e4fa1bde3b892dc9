"""SQL functions for the queries behind the charts: they price what SQL adds up."""

from __future__ import annotations

import sqlite3
from datetime import date

from ..costs import prices
from ..costs import requests as turns
from ..log import database as log_database
from ..log import messages
from .access import MIGRATIONS


def register(connection: sqlite3.Connection) -> None:
    """Add the functions to a connection with llm's log; leave any other as it is."""
    try:
        if not messages.there(connection, MIGRATIONS) or not log_database.has_requests(connection):
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
    if model and prices.is_local(model):
        return 0.0
    priced_as = model and prices.with_version(model, version)
    return _cost(priced_as, utc_day, requests, input_tokens, output_tokens, token_details)


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
    compared = cloud_model
    if cloud_model and model and prices.same_model(model, cloud_model):
        compared = prices.with_version(model, version)
    return _cost(compared, utc_day, requests, input_tokens, output_tokens, token_details)


def reason(text: str | None) -> str | None:
    """Why a request fell back, without the numbers that differ from one time to the next."""
    return text and turns.without_numbers(str(text))


def _cost(  # noqa: PLR0913, PLR0917 - as above
    model: str | None,
    utc_day: str,
    requests: int,
    input_tokens: int | None,
    output_tokens: int | None,
    token_details: str | None,
) -> float | None:
    if not model or input_tokens is None or output_tokens is None:
        return None
    try:
        known = prices.price_list(model, date.fromisoformat(utc_day))
        tokens = prices.Tokens(input_tokens, output_tokens)
        if token_details is not None:
            tokens = prices.count(input_tokens, output_tokens, token_details)
    except (ValueError, TypeError, AttributeError):
        return None
    return float(known.cost(tokens, requests)) if known else None
