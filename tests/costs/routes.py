"""The requests of a log by route, in columns, for tests of what is read."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_tiered.costs.periods import ALWAYS, Period
from llm_tiered.costs.requests import (
    LoggedTurn,
    OtherModel,
    Range,
    earliest,
    first_request,
    read_other_models,
    read_turns,
)
from llm_tiered.log import database as log_database
from llm_tiered.log.database import TABLES

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime
    from pathlib import Path

    from llm_tiered.costs.prices import Tokens
    from llm_tiered.costs.requests import By


class Route(NamedTuple):
    """The key of a group of requests, which model answered, and why."""

    key: str | None
    model: str | None
    version: str | None
    fallback: str | None
    cached: bool


@dataclass
class Requests:
    """Requests of one route, in columns."""

    times: list[str] = field(default_factory=list)
    input_tokens: list[int | None] = field(default_factory=list)
    output_tokens: list[int | None] = field(default_factory=list)
    durations: list[int | None] = field(default_factory=list)
    first_outputs: list[int | None] = field(default_factory=list)
    special: list[Tokens | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.times)


def read(path: Path, period: Period = ALWAYS, by: By | None = None) -> Any:
    """Return the requests by route, and the number of unreadable rows."""
    with log_database.reading(path) as database:
        return read_open(database, period, by)


def read_open(
    database: sqlite3.Connection, period: Period = ALWAYS, by: By | None = None
) -> tuple[dict[Route, Requests], int]:
    """Return the same for an open log."""
    routes: defaultdict[Route, Requests] = defaultdict(Requests)
    unreadable = 0
    for turn in chain(*(read_turns(database, Range(table), period) for table in TABLES)):
        if not isinstance(turn, LoggedTurn):
            unreadable += 1
            continue
        route = turn.route
        key = turn.day if by == "day" else getattr(route, by or "", None)
        group = routes[Route(key, route.model, route.version, route.fallback, route.cached)]
        for column, value in zip(vars(group).values(), turn[2:], strict=True):
            column.append(value)
    return dict(routes), unreadable


def others(database: sqlite3.Connection, period: Period = ALWAYS) -> list[OtherModel]:
    """Return the use of other models in each table."""
    return [
        OtherModel(model, number, int(inputs), int(outputs))
        for table in TABLES
        for _, model, number, inputs, outputs in read_other_models(database, Range(table), period)
    ]


def first_time(database: sqlite3.Connection) -> datetime | None:
    """Return when the first request to `tiered` was made."""
    times = (earliest(first_request(database, Range(table))) for table in TABLES)
    return min(filter(None, times), default=None)
