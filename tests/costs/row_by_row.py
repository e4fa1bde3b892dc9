"""The report on a log made row by row, as it was before there were sums: the reference for them.

It knows nothing of blocks, days or histograms. It shares with the package what reads a single row
and what a single request costs.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from datetime import date, datetime, timedelta
from decimal import Decimal
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from llm_tiered.config.price import ConfigPrice
from llm_tiered.costs.prices import Tokens, price_list, same_model, with_version
from llm_tiered.costs.requests import LoggedTurn, Range, read_other_models, read_turns
from llm_tiered.log.database import TABLES, as_logged, has_table, parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llm_tiered.costs.money import Comparison
    from llm_tiered.costs.periods import Period
    from llm_tiered.costs.requests import By


def facts(
    log: Path, comparison: Comparison, bys: Sequence[By | None], *, period: Period, now: datetime
) -> list[dict[str, Any]]:
    """Return what `SavingsReport.as_dict` has, apart from times, rates and what is in no log."""
    with closing(sqlite3.connect(log)) as database:
        tables = [table for table in TABLES if has_table(database, table)]
        rows = [row for table in tables for row in read_turns(database, Range(table), period)]
        others: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0, 0])
        for table in tables:
            for _, model, *numbers in read_other_models(database, Range(table), period):
                for place, number in enumerate(numbers):
                    others[model][place] += number
    turns = [row for row in rows if isinstance(row, LoggedTurn)]
    money = {id(turn): costs(turn, comparison) for turn in turns}
    latest = as_logged(now + timedelta(minutes=1))
    start = min((turn.time for turn in turns), default=None)
    return [
        {
            "total": tally(turns, money),
            "groups": {key: tally(group, money) for key, group in grouped(turns, by).items()},
            "fallbacks": Counter(turn.route.fallback for turn in turns if turn.route.fallback),
            "other_models": {model: list(map(int, numbers)) for model, numbers in others.items()},
            "unreadable_rows": len(rows) - len(turns),
            "future_requests": sum(turn.time > latest for turn in turns),
            "start": start and parse_time(start).isoformat(),
        }
        for by in bys
    ]


def grouped(turns: list[LoggedTurn], by: By | None) -> dict[str | None, list[LoggedTurn]]:
    """Return the requests by key."""
    groups: defaultdict[str | None, list[LoggedTurn]] = defaultdict(list)
    for turn in turns if by else ():
        key = turn.day or None if by == "day" else getattr(turn.route, str(by))
        groups[key].append(turn)
    return groups


def tally(turns: list[LoggedTurn], money: dict[int, tuple[Any, ...]]) -> dict[str, Any]:
    """Return what `Tally.as_dict` has; `money` is what each request cost, by its identity."""
    spent, in_cloud, saved = zip(*(money[id(t)] for t in turns), strict=True) if turns else [()] * 3
    local, own = (
        sum(turn.route.place == place and not turn.route.cached for turn in turns)
        for place in ("here", "own")
    )
    cached = sum(turn.route.cached for turn in turns)
    timed = [
        (turn.output_tokens, turn.duration)
        for turn in turns
        if turn.output_tokens and turn.duration and not turn.route.cached
    ]
    ms = sum(duration for _, duration in timed)
    number = len(turns)
    return {
        "requests": number,
        "local_requests": local,
        "own_requests": own,
        "cloud_requests": number - local - own - cached,
        "cached_requests": cached,
        "local_share": local / number if number else None,
        "cache_hit_rate": cached / number if number else None,
        "fallback_rate": sum(bool(t.route.fallback) for t in turns) / number if number else None,
        "input_tokens": sum(turn.input_tokens or 0 for turn in turns),
        "output_tokens": sum(turn.output_tokens or 0 for turn in turns),
        "uncounted_requests": sum(None in turn[3:5] for turn in turns),
        "spent": amount(spent),
        "cloud_cost": amount(in_cloud),
        "saved": amount(saved),
        "latency_ms": percentiles([t.duration for t in turns if t.duration is not None]),
        "first_token_ms": percentiles(
            [t.first_output for t in turns if t.first_output is not None]
        ),
        "tokens_per_second": sum(tokens for tokens, _ in timed) * 1000 / ms if ms else None,
    }


def costs(
    turn: LoggedTurn, comparison: Comparison
) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    """Return what a request cost, what it would have cost in the cloud, and what was saved."""
    route, cloud_model = turn.route, comparison.cloud_model
    model = with_version(route.model, route.version) if route.model else None
    is_cloud_model = route.model and cloud_model and same_model(route.model, cloud_model)
    in_cloud = cost(turn, model if is_cloud_model else cloud_model)
    spent: Decimal | None = Decimal(0)
    price = ConfigPrice.from_text(route.price)
    if route.cached:
        pass
    elif price:
        counted = None not in (turn.input_tokens, turn.output_tokens)
        tokens = (turn.input_tokens, turn.output_tokens) if counted else (None, None)
        spent = price.cost(*tokens, turn.duration)
    elif route.place == "cloud":
        spent = cost(turn, model)
    elif route.place == "here" and comparison.energy:
        spent = None if turn.duration is None else comparison.energy.cost(turn.duration)
    saved = None if spent is None or in_cloud is None else in_cloud - spent
    return spent, in_cloud, saved


def cost(turn: LoggedTurn, model: str | None) -> Decimal | None:
    """Return the dollars for the tokens of a request at a model's prices of that day."""
    prices = price_list(model, date.fromisoformat(turn.time[:10])) if model else None
    if prices is None or turn.input_tokens is None or turn.output_tokens is None:
        return None
    return prices.cost(turn.special or Tokens(turn.input_tokens, turn.output_tokens))


def amount(dollars: tuple[Decimal | None, ...]) -> tuple[Decimal | None, int]:
    """Return the sum, None if no price is known, and for how many requests it is unknown."""
    known = [each for each in dollars if each is not None]
    unknown = len(dollars) - len(known)
    return (sum(known, Decimal(0)) if known or not unknown else None), unknown


def percentiles(values: list[int]) -> dict[str, float] | None:
    """Return the exact percentiles."""
    if not values:
        return None
    cuts = quantiles(values * 2 if len(values) == 1 else values, n=20, method="inclusive")
    return {"p50": cuts[9], "p95": cuts[18]}
