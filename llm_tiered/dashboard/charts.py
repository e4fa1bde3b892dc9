"""The charts of the page: a picture, the same figures as a table, and the query behind them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ..wording import dollars, line, number, percent, seconds, visible
from . import drawing, queries
from .numbers import money

if TYPE_CHECKING:
    from .drawing import Picture
    from .figures import Figures, Report

HERE, CLOUD, CACHE = "answered here", "in the cloud", "by the cache"
LEGEND = (("here", HERE), ("cloud", CLOUD), ("cache", CACHE))

# Letters of a label that fit beside its number.
LABEL = 48

# Reasons that are drawn; the table has all of them.
REASONS = 8


@dataclass(frozen=True)
class Chart:
    """`name` is unique on the page; `picture` is None where there is nothing to draw."""

    name: str
    title: str
    headline: str
    picture: Picture | None
    headers: list[str]
    rows: list[list[str]]
    query: str
    legend: tuple[tuple[str, str], ...] = ()


def build(figures: Figures) -> list[Chart]:
    """All charts, in the order in which they are shown."""
    by = figures.reports
    return [
        _money(by["day"]),
        _days(by["day"]),
        _shares(by["tier"], "tiers", "Requests by tier"),
        _shares(by["task"], "tasks", "Requests by task"),
        _latency(by["tier"]),
        _fallbacks(by["day"]),
    ]


def _money(report: Report) -> Chart:
    """What was saved and spent up to each day."""
    groups = _of_days(report)
    saved, spent = (
        list(accumulate(_dollars(group[name]) for group in groups)) for name in ("saved", "spent")
    )
    picture = None
    if groups:
        series = [
            drawing.Series(name, [float(value) for value in values])
            for name, values in (("saved", saved), ("spent", spent))
        ]
        picture = drawing.lines(_days_of(groups), series, _tick_dollars)
    rows = [
        [
            group["key"],
            *(money(group[name]) for name in ("spent", "cloud_cost", "saved")),
            *(dollars(so_far[place]) for so_far in (spent, saved)),
        ]
        for place, group in enumerate(groups)
    ]
    headers = ["day", "spent", "all in the cloud", "saved", "spent so far", "saved so far"]
    return Chart(
        "money",
        "Saved and spent",
        f"added up, compared with {line(report['cloud_model'] or 'no cloud tier', LABEL)}",
        picture,
        headers,
        rows,
        f"{queries.PREFIX}money",
        tuple((name, f"{name} {money(report['total'][name])}") for name in ("saved", "spent")),
    )


def _days(report: Report) -> Chart:
    """Who answered, by day."""
    groups = _of_days(report)
    picture = None
    if groups:
        picture = drawing.columns(_days_of(groups), _answered(groups), _tick_number)
    rows = [[group["key"], *_counts(group), percent(group["cache_hit_rate"])] for group in groups]
    headers = ["day", "requests", HERE, CLOUD, CACHE, "cache hits"]
    headline = f"{percent(report['total']['cache_hit_rate'])} answered by the cache"
    return Chart(
        "days",
        "Requests by day",
        headline,
        picture,
        headers,
        rows,
        f"{queries.PREFIX}days",
        LEGEND,
    )


def _shares(report: Report, name: str, title: str) -> Chart:
    """How many requests went to each tier or task, and who answered."""
    groups, total = report["groups"], report["total"]["requests"]
    shares = [group["requests"] / total for group in groups]
    labels = [
        (_label(group["key"]), f"{number(group['requests'])} ({percent(share)})")
        for group, share in zip(groups, shares, strict=True)
    ]
    rows = [
        [
            *(_key(group), number(group["requests"]), percent(share), *_counts(group)[1:]),
            *(money(group[name]) for name in ("spent", "saved")),
        ]
        for group, share in zip(groups, shares, strict=True)
    ]
    headers = [report["by"], "requests", "share", HERE, CLOUD, CACHE, "spent", "saved"]
    return Chart(
        name,
        title,
        f"{percent(report['total']['local_share'])} answered here",
        drawing.bars(labels, _answered(groups)) if groups else None,
        headers,
        rows,
        f"{queries.PREFIX}{name}",
        LEGEND,
    )


def _latency(report: Report) -> Chart:
    """How long whole answers took, by tier."""
    groups = [group for group in report["groups"] if group["latency_ms"]]
    p50s, p95s = ([group["latency_ms"][name] for group in groups] for name in ("p50", "p95"))
    labels = [
        (_label(group["key"]), f"p50 {seconds(p50)}, p95 {seconds(p95)}")
        for group, p50, p95 in zip(groups, p50s, p95s, strict=True)
    ]
    rests = [p95 - p50 for p50, p95 in zip(p50s, p95s, strict=True)]
    series = [drawing.Series("p50", p50s), drawing.Series("p95", rests)]
    rows = [
        [_key(group), number(group["requests"])]
        + [seconds(_percentile(group, *of)) for of in _PERCENTILES]
        + [_speed(group["tokens_per_second"])]
        for group in report["groups"]
    ]
    headers = ["tier", "requests", "p50", "p95", "first token p50", "first token p95", "tokens/s"]
    return Chart(
        "latency",
        "Time to the whole answer",
        f"p50 {seconds(_percentile(report['total'], 'latency_ms', 'p50'))}, "
        f"p95 {seconds(_percentile(report['total'], 'latency_ms', 'p95'))}",
        drawing.bars(labels, series) if groups else None,
        headers,
        rows,
        f"{queries.PREFIX}latency",
        (("p50", "half of them by then"), ("p95", "95 of 100 by then")),
    )


_PERCENTILES = [(of, name) for of in ("latency_ms", "first_token_ms") for name in ("p50", "p95")]


def _fallbacks(report: Report) -> Chart:
    """Why requests were not answered by the first model, most frequent first."""
    found = report["fallbacks"]
    labels = [
        (_label(one["reason"]), f"{number(one['requests'])} ({percent(one['rate'])})")
        for one in found[:REASONS]
    ]
    series = drawing.Series("fell-back", [one["requests"] for one in found[:REASONS]])
    rows = [
        [visible(one["reason"]), number(one["requests"]), percent(one["rate"])] for one in found
    ]
    return Chart(
        "fallbacks",
        "Why requests fell back",
        f"{percent(report['total']['fallback_rate'])} fell back",
        drawing.bars(labels, [series]) if found else None,
        ["because", "requests", "share of all"],
        rows,
        f"{queries.PREFIX}fallbacks",
    )


def _of_days(report: Report) -> list[dict[str, Any]]:
    return [group for group in report["groups"] if group["key"]]


def _days_of(groups: list[dict[str, Any]]) -> list[date]:
    return [date.fromisoformat(group["key"]) for group in groups]


def _answered(groups: list[dict[str, Any]]) -> list[drawing.Series]:
    return [
        drawing.Series(kind, [group[f"{column}_requests"] for group in groups])
        for (kind, _), column in zip(LEGEND, ("local", "cloud", "cached"), strict=True)
    ]


def _counts(group: dict[str, Any]) -> list[str]:
    names = ("requests", "local_requests", "cloud_requests", "cached_requests")
    return [number(group[name]) for name in names]


def _dollars(amount: dict[str, Any]) -> Decimal:
    return Decimal(amount["dollars"] or 0)


def _key(group: dict[str, Any]) -> str:
    return visible(group["key"] or "(none)")


def _label(text: str | None) -> str:
    return line(text or "(none)", LABEL)


def _percentile(group: dict[str, Any], of: str, name: str) -> float | None:
    value: float | None = (group[of] or {}).get(name)
    return value


def _speed(tokens_per_second: float | None) -> str:
    return "unknown" if tokens_per_second is None else f"{tokens_per_second:.1f}"


def _tick_dollars(value: float, step: float) -> str:
    if step < 0.01:
        return dollars(Decimal(f"{value:.12g}"))
    sign, digits = "-" if value < 0 else "", 0 if step >= 1 or not value else 2
    return f"{sign}${abs(value):,.{digits}f}"


def _tick_number(value: float, step: float) -> str:
    return f"{value:,.0f}" if step >= 1 or value == int(value) else ""
