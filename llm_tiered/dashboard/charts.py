"""The charts of the overview: each has a picture, a table of its figures, and a query."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ..wording import dollars, line, number, percent, seconds, visible
from . import drawing
from .amounts import money
from .queries import PREFIX

if TYPE_CHECKING:
    from .drawing import Picture
    from .figures import Figures, ReportJson

# Where answers come from: the CSS class, its name, and the number in a report.
ORIGINS = (
    ("here", "on this machine", "local_requests"),
    ("own", "on other machines of yours", "own_requests"),
    ("cloud", "in the cloud", "cloud_requests"),
    ("cache", "from the cache", "cached_requests"),
)

# Characters of a label that fit beside its number.
LABEL = 48

# Number of reasons that are drawn; the table has all of them.
REASONS = 8


@dataclass(frozen=True)
class Chart:
    """One chart.

    `name` is unique on the page. `picture` is None if there is nothing to draw. `legend` has a CSS
    class and a label for each series.
    """

    name: str
    title: str
    headline: str
    picture: Picture | None
    headers: list[str]
    rows: list[list[str]]
    legend: tuple[tuple[str, str], ...] = ()

    @property
    def query(self) -> str:
        """The name of the SQL query with the same figures."""
        return PREFIX + self.name


def build_charts(figures: Figures) -> list[Chart]:
    """Return all charts, in the order in which they are shown."""
    by = figures.reports
    return [
        _money(by["day"]),
        _days(by["day"]),
        _shares(by["tier"], "tiers", "Requests by tier"),
        _shares(by["task"], "tasks", "Requests by task"),
        _latency(by["tier"]),
        _fallbacks(by["day"]),
    ]


def _money(report: ReportJson) -> Chart:
    """What was saved and spent up to each day."""
    groups = _groups_with_day(report)
    saved, spent = (
        list(accumulate(_known_dollars(group[name]) for group in groups))
        for name in ("saved", "spent")
    )
    picture = None
    if groups:
        series = [
            drawing.Series(name, [float(value) for value in values])
            for name, values in (("saved", saved), ("spent", spent))
        ]
        picture = drawing.lines(_days_of(groups), series, _dollar_tick)
    rows = [
        [
            group["key"],
            *(money(group[name]) for name in ("spent", "cloud_cost", "saved")),
            *(dollars(sums[place]) for sums in (spent, saved)),
        ]
        for place, group in enumerate(groups)
    ]
    return Chart(
        "money",
        "Saved and spent",
        f"added up, compared with {line(report['cloud_model'] or 'no cloud tier', LABEL)}",
        picture,
        ["day", "spent", "all in the cloud", "saved", "spent so far", "saved so far"],
        rows,
        tuple((name, f"{name} {money(report['total'][name])}") for name in ("saved", "spent")),
    )


def _days(report: ReportJson) -> Chart:
    """Where answers came from, by day."""
    groups = _groups_with_day(report)
    picture = None
    if groups:
        picture = drawing.columns(_days_of(groups), _answers(report, groups), _number_tick)
    rows = [
        [group["key"], *_counts(report, group), percent(group["cache_hit_rate"])]
        for group in groups
    ]
    return Chart(
        "days",
        "Requests by day",
        f"{percent(report['total']['cache_hit_rate'])} answered from the cache",
        picture,
        ["day", "requests", *_names(report), "cache hits"],
        rows,
        _legend(report),
    )


def _shares(report: ReportJson, name: str, title: str) -> Chart:
    """How many requests went to each tier or task, and where the answers came from."""
    groups, total = report["groups"], report["total"]["requests"]
    shares = [group["requests"] / total for group in groups]
    labels = [
        (_label(group["key"]), f"{number(group['requests'])} ({percent(share)})")
        for group, share in zip(groups, shares, strict=True)
    ]
    rows = [
        [
            *(_key(group), number(group["requests"]), percent(share), *_counts(report, group)[1:]),
            *(money(group[name]) for name in ("spent", "saved")),
        ]
        for group, share in zip(groups, shares, strict=True)
    ]
    return Chart(
        name,
        title,
        f"{percent(report['total']['local_share'])} answered on this machine",
        drawing.bars(labels, _answers(report, groups)) if groups else None,
        [report["by"], "requests", "share", *_names(report), "spent", "saved"],
        rows,
        _legend(report),
    )


def _latency(report: ReportJson) -> Chart:
    """The time to the complete answer, by tier."""
    groups = [group for group in report["groups"] if group["latency_ms"]]
    p50s, p95s = ([group["latency_ms"][name] for group in groups] for name in ("p50", "p95"))
    labels = [
        (_label(group["key"]), f"p50 {seconds(p50)}, p95 {seconds(p95)}")
        for group, p50, p95 in zip(groups, p50s, p95s, strict=True)
    ]
    differences = [p95 - p50 for p50, p95 in zip(p50s, p95s, strict=True)]
    series = [drawing.Series("p50", p50s), drawing.Series("p95", differences)]
    rows = [
        [_key(group), number(group["requests"])]
        + [seconds(_percentile(group, *column)) for column in _PERCENTILES]
        + [_speed(group["tokens_per_second"])]
        for group in report["groups"]
    ]
    p50, p95 = (_percentile(report["total"], "latency_ms", name) for name in ("p50", "p95"))
    return Chart(
        "latency",
        "Time to the complete answer",
        f"p50 {seconds(p50)}, p95 {seconds(p95)}",
        drawing.bars(labels, series) if groups else None,
        ["tier", "requests", "p50", "p95", "first token p50", "first token p95", "tokens/s"],
        rows,
        (("p50", "half answered by then"), ("p95", "95% answered by then")),
    )


_PERCENTILES = [
    (measure, name) for measure in ("latency_ms", "first_token_ms") for name in ("p50", "p95")
]


def _fallbacks(report: ReportJson) -> Chart:
    """Why requests were not answered by the first model, most frequent reasons first."""
    fallbacks = report["fallbacks"]
    shown = fallbacks[:REASONS]
    labels = [
        (_label(each["reason"]), f"{number(each['requests'])} ({percent(each['rate'])})")
        for each in shown
    ]
    series = drawing.Series("fell-back", [each["requests"] for each in shown])
    rows = [
        [visible(each["reason"]), number(each["requests"]), percent(each["rate"])]
        for each in fallbacks
    ]
    return Chart(
        "fallbacks",
        "Why requests fell back",
        f"{percent(report['total']['fallback_rate'])} fell back",
        drawing.bars(labels, [series]) if fallbacks else None,
        ["reason", "requests", "share of all"],
        rows,
    )


def _groups_with_day(report: ReportJson) -> list[dict[str, Any]]:
    return [group for group in report["groups"] if group["key"]]


def _days_of(groups: list[dict[str, Any]]) -> list[date]:
    return [date.fromisoformat(group["key"]) for group in groups]


def _origins(report: ReportJson) -> list[tuple[str, str, str]]:
    """ORIGINS, without the user's other machines if none has answered."""
    has_own = report["total"]["own_requests"]
    return [origin for origin in ORIGINS if has_own or origin[0] != "own"]


def _legend(report: ReportJson) -> tuple[tuple[str, str], ...]:
    return tuple((kind, name) for kind, name, _ in _origins(report))


def _names(report: ReportJson) -> list[str]:
    return [name for _, name, _ in _origins(report)]


def _answers(report: ReportJson, groups: list[dict[str, Any]]) -> list[drawing.Series]:
    """Where answers came from, in the order of the legend."""
    return [
        drawing.Series(kind, [group[column] for group in groups])
        for kind, _, column in _origins(report)
    ]


def _counts(report: ReportJson, group: dict[str, Any]) -> list[str]:
    names = ("requests", *(column for _, _, column in _origins(report)))
    return [number(group[name]) for name in names]


def _known_dollars(amount: dict[str, Any]) -> Decimal:
    return Decimal(amount["dollars"] or 0)


def _key(group: dict[str, Any]) -> str:
    return visible(group["key"] or "(none)")


def _label(text: str | None) -> str:
    return line(text or "(none)", LABEL)


def _percentile(group: dict[str, Any], measure: str, name: str) -> float | None:
    value: float | None = (group[measure] or {}).get(name)
    return value


def _speed(tokens_per_second: float | None) -> str:
    return "unknown" if tokens_per_second is None else f"{tokens_per_second:.1f}"


def _dollar_tick(value: float, step: float) -> str:
    if step < 0.01:
        return dollars(Decimal(f"{value:.12g}"))
    sign, digits = "-" if value < 0 else "", 0 if step >= 1 or not value else 2
    return f"{sign}${abs(value):,.{digits}f}"


def _number_tick(value: float, step: float) -> str:
    return f"{value:,.0f}" if step >= 1 or value == int(value) else ""
