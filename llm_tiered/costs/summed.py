"""The tables of our own database that hold sums over requests, by day, by month and by year."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from .requests import Route
from .sums import AnswerSum, Cell, GroupTimes, Sum, Sums, shape_from_json
from .times import Percentiles, Times

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

TABLES = ("names", "cells", "answers", "times", "percentiles", "others", "damaged")

# What makes equal the days on which requests of a route have the same prices.
PricedDay: TypeAlias = "Callable[[Route, str], str]"

SCHEMA = """
create table names (id integer primary key, name text not null unique);
create table cells (
    span text not null, route integer not null, priced_on text not null, shape integer not null,
    counted integer not null, timed integer not null, requests integer not null,
    input_tokens integer not null, output_tokens integer not null, milliseconds integer not null,
    generated integer not null, generating_ms integer not null, amounts text not null,
    primary key (span, route, priced_on, shape, counted, timed)
) without rowid;
create table answers (
    span text not null, route integer not null, priced_on text not null, shape integer not null,
    counted integer not null, timed integer not null, requests integer not null,
    input_tokens integer not null, output_tokens integer not null, milliseconds integer not null,
    generated integer not null, generating_ms integer not null, amounts text not null,
    fell_back integer not null,
    primary key (span, route, priced_on, shape, counted, timed)
) without rowid;
create table times (
    span text not null, grouping text not null, key text not null, whole integer not null,
    classes blob not null,
    primary key (span, grouping, key, whole)
) without rowid;
create table percentiles (
    day text not null, whole integer not null, p50 real not null, p95 real not null,
    primary key (day, whole)
) without rowid;
create table others (
    span text not null, model text not null,
    requests integer not null, input_tokens real not null, output_tokens real not null,
    primary key (span, model)
) without rowid;
create table damaged (span text primary key, rows integer not null) without rowid
"""

_ADD = """
insert into {table} values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?{more})
on conflict do update set requests = requests + excluded.requests,
    input_tokens = input_tokens + excluded.input_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    milliseconds = milliseconds + excluded.milliseconds,
    generated = generated + excluded.generated,
    generating_ms = generating_ms + excluded.generating_ms, amounts = excluded.amounts
"""
_ADD_CELL = _ADD.format(table="cells", more="")
_ADD_ANSWERS = (
    _ADD.format(table="answers", more=", ?") + ", fell_back = fell_back + excluded.fell_back"
)

_AMOUNTS = """
select amounts from {table} where span = ? and route = ? and priced_on = ? and shape = ?
and counted = ? and timed = ?
"""
_AMOUNTS_OF_CELL, _AMOUNTS_OF_ANSWERS = (_AMOUNTS.format(table=t) for t in ("cells", "answers"))

_ADD_OTHER = """
insert into others values (?, ?, ?, ?, ?)
on conflict do update set requests = requests + excluded.requests,
    input_tokens = input_tokens + excluded.input_tokens,
    output_tokens = output_tokens + excluded.output_tokens
"""

_ADD_DAMAGED = """
insert into damaged values (?, ?) on conflict do update set rows = rows + excluded.rows
"""

_TIMES = "where span = ? and grouping = ? and key = ? and whole = ?"

_EMPTY = (
    "cells where requests = 0",
    "answers where requests = 0",
    "others where requests = 0",
    "damaged where rows = 0",
)

_IN_SPANS = "span in (select value from json_each(?))"


class SummedTables:
    """These tables of a connection. Every method raises sqlite3.Error if they can't be used."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add(self, sums: Sums) -> None:
        """Add to all sums; what is negative is taken away."""
        execute = self._database.execute
        self._add_cells(sums)
        for group, times in sums.group_times().items():
            for span in _spans(group.span):
                total = self._add_times(group._replace(span=span), times)
                # Only days need them: other periods and groups are merged.
                if not group.by and span == group.span:
                    self._put_percentiles(group, total)
        for (day, model), numbers in sums.others.items():
            for span in _spans(day):
                execute(_ADD_OTHER, (span, model, *numbers))
        for day, rows in sums.unreadable.items():
            for span in _spans(day):
                execute(_ADD_DAMAGED, (span, rows))

    def tidy(self) -> None:
        """Remove the sums of nothing."""
        for nothing in _EMPTY:
            self._database.execute(f"delete from {nothing}")  # noqa: S608 - our own words

    def cells(self, spans: Iterable[str], priced_day: PricedDay) -> Iterator[tuple[Cell, Sum]]:
        """Yield the sums of these spans; the cells lack their span."""
        for _, cell, total, _ in self._read_cells("cells", spans, priced_day):
            yield cell, total

    def answers(
        self, days: Iterable[str], priced_day: PricedDay
    ) -> Iterator[tuple[str, Cell, AnswerSum]]:
        """Yield each of these days with sums by the model that answered alone, as `cells` does."""
        for day, cell, total, (fell_back,) in self._read_cells("answers", days, priced_day):
            yield day, cell, AnswerSum(total, fell_back)

    def times(self, spans: Iterable[str], by: str) -> Iterator[tuple[GroupTimes, Times]]:
        """Yield the times of the groups of these spans; with "" as `by`, those of all requests."""
        query = f"select span, key, whole, classes from times where {_IN_SPANS} and grouping = ?"  # noqa: S608 - our own words
        rows = self._database.execute(query, (json.dumps([*spans]), by))
        for span, key, whole, classes in rows:
            yield GroupTimes(span, by, json.loads(key), bool(whole)), Times.from_bytes(classes)

    def percentiles(self, days: Iterable[str]) -> Iterator[tuple[str, bool, Percentiles]]:
        """Yield the percentiles of days, and whether they are those of whole answers."""
        query = "select * from percentiles where day in (select value from json_each(?))"
        for day, whole, *percentiles in self._database.execute(query, (json.dumps([*days]),)):
            yield day, bool(whole), Percentiles(*percentiles)

    def others(self, spans: Iterable[str]) -> list[tuple[str, int, float, float]]:
        """Return model, number, input and output tokens of requests to other models."""
        query = f"""
            select model, sum(requests), sum(input_tokens), sum(output_tokens) from others
            where {_IN_SPANS} group by model
        """  # noqa: S608 - our own words
        return self._database.execute(query, (json.dumps([*spans]),)).fetchall()

    def damaged(self, spans: Iterable[str]) -> int:
        """Return the number of damaged rows."""
        query = f"select total(rows) from damaged where {_IN_SPANS}"  # noqa: S608 - our own words
        (rows,) = self._database.execute(query, (json.dumps([*spans]),)).fetchone()
        return int(rows)

    def _read_cells(
        self, table: str, spans: Iterable[str], priced_day: PricedDay
    ) -> Iterator[tuple[str, Cell, Sum, tuple[Any, ...]]]:
        names = dict(self._database.execute("select id, name from names"))
        routes: dict[int, Route] = {}
        cells: dict[tuple[Any, ...], Cell] = {}
        query = f"select * from {table} where {_IN_SPANS}"  # noqa: S608 - our own words
        for row in self._database.execute(query, (json.dumps([*spans]),)):
            span, route_id, day, shape_id, counted, timed = row[:6]
            route = routes.get(route_id)
            if route is None:
                route = routes[route_id] = Route(*json.loads(names[route_id]))
            key = (route_id, priced_day(route, day), shape_id, counted, timed)
            cell = cells.get(key)
            if cell is None:
                shape = shape_from_json(json.loads(names[shape_id]))
                cell = cells[key] = Cell("", route, key[1], shape, bool(counted), bool(timed))
            yield span, cell, Sum(_numbers(row[12]), *row[6:12]), row[13:]

    def _add_cells(self, sums: Sums) -> None:
        ids: dict[Any, int] = {}
        for cell, total in sums.cells.items():
            for span in _spans(cell.span):
                self._add_cell(_ADD_CELL, _AMOUNTS_OF_CELL, cell._replace(span=span), total, ids)
        for cell, answers in sums.answers().items():
            more = (answers.fell_back,)
            self._add_cell(_ADD_ANSWERS, _AMOUNTS_OF_ANSWERS, cell, answers.total, ids, more)

    def _add_cell(  # noqa: PLR0913, PLR0917 - two tables with the same columns
        self,
        add: str,
        amounts: str,
        cell: Cell,
        total: Sum,
        ids: dict[Any, int],
        more: tuple[int, ...] = (),
    ) -> None:
        place = [*cell]
        for column in (1, 3):
            place[column] = self._id_of(cell[column], ids)
        units, *numbers = total.numbers()
        text = ""
        if units:
            row = self._database.execute(amounts, place).fetchone()
            before = _numbers(row[0]) if row else (0,) * len(units)
            text = " ".join(str(one + other) for one, other in zip(before, units, strict=True))
        self._database.execute(add, (*place, *numbers, text, *more))

    def _id_of(self, name: Any, ids: dict[Any, int]) -> int:
        """Return the number of a route or shape; `ids` keeps those found earlier."""
        if name not in ids:
            text = json.dumps(name)
            self._database.execute("insert or ignore into names (name) values (?)", (text,))
            query = "select id from names where name = ?"
            (ids[name],) = self._database.execute(query, (text,)).fetchone()
        return ids[name]

    def _add_times(self, group: GroupTimes, times: Times) -> Times:
        execute = self._database.execute
        span, by, key, whole = group
        place = (span, by, json.dumps(key), whole)
        row = execute(f"select classes from times {_TIMES}", place).fetchone()  # noqa: S608 - our own words
        total = Times.from_bytes(row[0]) if row else Times()
        total.merge(times)
        if total:
            values = (*place, total.to_bytes())
            execute("insert or replace into times values (?, ?, ?, ?, ?)", values)
        else:
            execute(f"delete from times {_TIMES}", place)  # noqa: S608 - our own words
        return total

    def _put_percentiles(self, group: GroupTimes, times: Times) -> None:
        execute = self._database.execute
        place = (group.span, group.whole)
        execute("delete from percentiles where day = ? and whole = ?", place)
        if found := times.percentiles:
            values = (*place, found.p50, found.p95)
            execute("insert into percentiles values (?, ?, ?, ?)", values)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


def _spans(day: str) -> tuple[str, ...]:
    """Return the spans whose sums have this day: itself, its month and its year."""
    return (day, day[:7], day[:4]) if day else ("",)
