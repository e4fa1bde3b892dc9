"""`llm tiered savings`: what requests cost, and what local answers saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from ..costs.comparison import comparison_of_config
from ..costs.periods import Period, period_of
from ..costs.plot import savings_chart
from ..costs.requests import By
from ..costs.savings import savings_report
from ..errors import RequestError
from ..paths import log_path
from ..wording import dollars, percent, seconds
from .output import echo_json, echo_table, json_option, write_text

if TYPE_CHECKING:
    from ..costs.savings import SavingsReport
    from ..costs.tally import Money, Tally
    from ..costs.times import Percentiles


@click.command("savings")
@click.option("--since", metavar="WHEN", help="Only requests from this time on")
@click.option("--until", metavar="WHEN", help="Only requests up to this time")
@click.option(
    "--by",
    type=click.Choice(get_args(By)),
    metavar="WHAT",
    help="Also show groups, by day, tier, task, model, rule or rollout",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a chart of costs and savings to this file, as SVG",
)
@json_option
def command(
    since: str | None, until: str | None, by: By | None, plot: Path | None, json_: bool
) -> None:
    """Show what requests to `tiered` cost, and what they would have cost in the cloud.

    WHEN is a day such as 2026-11-01, a time such as 2026-11-01T15:00, today, yesterday, or an age
    such as 12h, 7d or 4w. Days are in this machine's time zone, and --until includes
    that whole day.

    A request counts for the tier that it was sent to, even if another one answered. The cost in the
    cloud is the price of the same tokens on the config's cloud tier. What failed requests cost, and
    those that are not logged, is a line of its own.
    """
    period = period_of(since, until)
    if plot and plot.suffix.lower() != ".svg":
        raise RequestError(f"{plot}: the chart is an SVG file", fix="name it .svg")
    report = _report(period, by)
    if plot:
        by_day = report if by == "day" else _report(period, "day")
        write_text(plot, savings_chart(by_day))
    if json_:
        echo_json(report.as_dict())
        return
    _echo(report)


def _report(period: Period, by: By | None) -> SavingsReport:
    return savings_report(log_path(), comparison_of_config(), period=period, by=by)


def _echo(report: SavingsReport) -> None:
    total = report.total
    click.echo(_heading(report))
    if total.requests:
        click.echo()
        echo_table(_summary(report))
    elif unlogged := _unlogged(report):
        echo_table(unlogged)
    if report.groups:
        click.echo()
        own = ["other machines"] if total.own else []
        headers = [report.by or "", "requests", "this machine", *own, "cached", "fell back"]
        headers += ["tokens in", "tokens out", "spent", "in the cloud", "saved", "p50", "p95"]
        rows = [_row(key, tally, own=bool(own)) for key, tally in report.groups.items()]
        echo_table(rows, [*headers, "tokens/s"])
        if total.in_cloud.unpriced or total.spent.unpriced:
            click.echo("* and more: the price of some requests is unknown")
    if total.fallbacks:
        click.echo()
        rows = [
            [f"{requests:,}", percent(total.share(requests)), reason]
            for reason, requests in total.fallbacks.most_common()
        ]
        echo_table(rows, ["fell back", "", "because"])
    notes = _notes(report)
    if notes:
        click.echo()
        click.echo("\n".join(notes))


def _heading(report: SavingsReport) -> str:
    if not report.total.requests or report.start is None or report.days is None:
        return "no requests to tiered" + (" in this period" if any(report.period) else "")
    start, end = (moment.astimezone().date() for moment in (report.start, report.end))
    return (
        f"{report.total.requests:,} requests to tiered, {start} to {end} ({report.days:.1f} days)"
    )


def _summary(report: SavingsReport) -> list[tuple[str, str]]:
    total = report.total
    rate = f"{dollars(report.saved_per_month)} a month, {dollars(report.saved_per_year)} a year"
    uncounted = f", unknown for {total.uncounted:,} requests" if total.uncounted else ""
    own = "answered on other machines of yours"
    return [
        ("answered on this machine", percent(total.share(total.local))),
        *([(own, percent(total.share(total.own)))] if total.own else []),
        ("answered in the cloud", percent(total.share(total.cloud))),
        ("answered by the cache", percent(total.share(total.cached))),
        ("fell back", percent(total.share(total.fallbacks.total()))),
        ("tokens", f"{total.input_tokens:,} in, {total.output_tokens:,} out{uncounted}"),
        ("spent", _money(total.spent)),
        *_unlogged(report),
        ("all in the cloud", f"{_money(total.in_cloud)} ({report.cloud_model or 'no such tier'})"),
        ("saved", f"{_money(total.saved)}: {rate} at this rate"),
        ("answer after", _both(total.latency)),
        ("first token after", _both(total.first_output)),
        ("speed", f"{_number(total.tokens_per_second)} tokens/s, waiting and loading included"),
    ]


def _unlogged(report: SavingsReport) -> list[tuple[str, str]]:
    """What else the service charges for: attempts that failed or broke off, unlogged answers."""
    more, name = report.unlogged, "spent, but in no log"
    if more is None:
        return [(name, "unknown (llm tiered status says why)")]
    if not more.priced and not more.unpriced:
        return []
    return [(name, f"{_money(more)}; {dollars(more.known + report.total.spent.known)} in all")]


def _row(key: str | None, tally: Tally, *, own: bool) -> list[str]:
    latency = tally.latency
    return [
        key or "(none)",
        f"{tally.requests:,}",
        percent(tally.share(tally.local)),
        *([percent(tally.share(tally.own))] if own else []),
        percent(tally.share(tally.cached)),
        percent(tally.share(tally.fallbacks.total())),
        f"{tally.input_tokens:,}",
        f"{tally.output_tokens:,}",
        _short(tally.spent),
        _short(tally.in_cloud),
        _short(tally.saved),
        seconds(latency.p50 if latency else None),
        seconds(latency.p95 if latency else None),
        _number(tally.tokens_per_second),
    ]


def _notes(report: SavingsReport) -> list[str]:
    notes = []
    if report.others:
        others = ", ".join(f"{other.requests:,} of {other.model}" for other in report.others)
        notes.append(f"not counted, because other models were asked directly: {others}")
    if report.unreadable:
        notes.append(f"not counted, because the row is damaged: {report.unreadable:,}")
    if report.future:
        notes.append(f"counted, though dated in the future: {report.future:,}")
    return notes


def _money(money: Money) -> str:
    unknown = f", price unknown for {money.unpriced:,}" if money.unpriced else ""
    return "unknown" if money.dollars is None else dollars(money.dollars) + unknown


def _short(money: Money) -> str:
    return dollars(money.dollars) + ("*" if money.unpriced and money.priced else "")


def _both(percentiles: Percentiles | None) -> str:
    if percentiles is None:
        return "unknown"
    return f"p50 {seconds(percentiles.p50)}, p95 {seconds(percentiles.p95)}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"
