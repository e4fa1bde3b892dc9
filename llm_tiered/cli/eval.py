"""`llm tiered eval`: how good each tier is on prompts with known answers."""

from __future__ import annotations

from contextlib import ExitStack
from decimal import Decimal
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..batch.journal import Journal
from ..batch.output import encode
from ..config import edit
from ..config.settings import load_settings
from ..errors import RequestError, TieredError
from ..evaluation import report, suite
from ..evaluation.asking import QuestionAsker
from ..evaluation.run import find_judges, run
from ..evaluation.significance import MARGIN
from ..evaluation.tiers import select_tiers
from ..paths import config_path
from ..wording import counted, dollars, percent, seconds
from .options import WrongUsage, concurrency_option, tiers_option
from .output import echo_json, echo_note, echo_table, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..config.tiers import Tier
    from ..evaluation.asking import Failures
    from ..evaluation.report import Group, Quality
    from ..evaluation.run import Outcome
    from ..evaluation.significance import Difference
    from ..evaluation.suite import Suite


@click.command("eval")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@tiers_option
@click.option("--judge", metavar="MODEL", help="Model that scores answers by a rubric")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the answers and scores  [default: FILE with .results.jsonl]",
)
@concurrency_option
@click.option("--restart", is_flag=True, help="Start over and ask everything again")
@click.option("--apply", is_flag=True, help="Change the tasks' complexity in the config to match")
@click.option("--yes", is_flag=True, help="With --apply, don't ask for confirmation")
@json_option
@click.pass_context
def command(  # noqa: PLR0913, PLR0917 - one for each option
    context: click.Context,
    file: Path,
    names: str | None,
    judge: str | None,
    output: Path | None,
    concurrency: int,
    restart: bool,
    apply: bool,
    yes: bool,
    json_: bool,
) -> None:
    """Measure how good each tier is on prompts with known answers, and which is good enough.

    FILE is JSONL. A row has a prompt, optionally id, system, task and options, and one or more
    conditions for a correct answer: exact, contains (text or a list), regex, schema (which the
    models are also given), numeric (the last number in the answer, with tolerance), or judge (a
    rubric that another model scores by). A correct answer meets all of them.

    A tier is as good as the cloud if no test finds it worse and, with 95% confidence, it is at
    most 10 points worse. With few rows there is no verdict. When the same command is run again,
    only the rows without an answer are asked.

    Exits with 0 if all rows have answers, 1 if any failed, 2 for a usage error or an invalid suite,
    130 after Ctrl-C.
    """
    output = output or file.with_suffix(".results.jsonl")
    with ExitStack() as stack:
        try:
            rows = suite.read(file, judge)
            if apply and not any(case.task for case in rows.cases):
                raise RequestError(f"--apply: no row in {file} has a task")
            tiers = select_tiers(names)
            judges = find_judges(rows.cases)
            if output.exists() and output.samefile(file):
                raise RequestError(f"{output} is the suite itself", fix="-o FILE")
            journal = Journal(output, restart=restart)
            stack.callback(journal.close)
        except (TieredError, OSError) as error:
            raise WrongUsage(str(error)) from error
        for bad in rows.bad:
            echo_note(f"line {bad.line}: {bad.error}")
        try:
            outcome = run(rows.cases, tiers, judges, QuestionAsker(journal, concurrency))
        except KeyboardInterrupt:
            echo_note("Stopped: run the same command again to continue")
            context.exit(130)
        _write(output, rows, outcome)
    groups = report.groups(rows.cases, tiers, outcome.scores)
    if json_:
        echo_json(_facts(file, output, rows, outcome, groups))
    else:
        _echo(groups, outcome)
    _echo_failures(outcome.failures)
    if apply:
        _apply(groups[1:], tiers, yes=yes)
    if rows.bad or outcome.failures.lines:
        context.exit(1)


def _write(output: Path, rows: Suite, outcome: Outcome) -> None:
    """Write a line for each answer; `line` is the number of its row in the suite.

    Without any answer, the results of an earlier run stay.
    """
    lines = []
    for case in rows.cases:
        for tier, scores in outcome.scores.items():
            if score := scores.get(case.row.key):
                answer = score.answer
                facts = {
                    "line": case.row.line,
                    "id": case.row.id,
                    "task": case.task,
                    "tier": tier,
                    "model": answer.model,
                    "score": score.value,
                    "why": score.why,
                    "response": answer.text,
                    "ms": answer.ms,
                    "input_tokens": answer.input_tokens,
                    "output_tokens": answer.output_tokens,
                    "cost": None if answer.cost is None else float(answer.cost),
                }
                lines.append(encode(facts))
    if not lines:
        return
    try:
        output.write_bytes(b"".join(lines))
    except OSError as error:
        raise TieredError(f"{output} can't be written: {error.strerror}") from None


def _facts(
    file: Path, output: Path, rows: Suite, outcome: Outcome, groups: Sequence[Group]
) -> dict[str, Any]:
    known = [cost for cost in outcome.judging if cost is not None]
    return {
        "suite": file,
        "results": output,
        "margin": MARGIN,
        "all": groups[0].as_dict(),
        "tasks": {group.name: group.as_dict() for group in groups[1:]},
        "judge": {
            "replies": len(outcome.judging),
            "cost": float(sum(known)),
            "unpriced": len(outcome.judging) - len(known),
        },
        "bad": [{"line": bad.line, "error": bad.error} for bad in rows.bad],
        "failures": [
            {"who": who, "reason": reason, "lines": lines}
            for (who, reason), lines in outcome.failures.lines.items()
        ],
    }


def _echo(groups: Sequence[Group], outcome: Outcome) -> None:
    echo_table([[quality.tier, quality.model] for quality in groups[0].qualities])
    for group in groups:
        click.echo(f"\n{group.name or 'all'}: {counted(group.cases, 'row')}")
        headers = ["tier", "answered", "quality", "95%", "cost", "p50"]
        headers += [f"against {group.reference}", "points", "p"]
        echo_table([_row(quality) for quality in group.qualities], headers)
        click.echo(f"cheapest that is as good as {group.reference}: {_cheapest(group)}")
    qualities = [quality for group in groups for quality in group.qualities]
    tests = sorted({quality.against.test for quality in qualities if quality.against})
    if tests:
        click.echo(f"\ntests: {', '.join(tests)}")
    if outcome.judging:
        known = [cost for cost in outcome.judging if cost is not None]
        cost = dollars(sum(known, Decimal(0))) if known else "unknown"
        more = " and more" if 0 < len(known) < len(outcome.judging) else ""
        click.echo(f"replies from judges: {len(outcome.judging):,}, cost: {cost}{more}")


def _row(quality: Quality) -> list[str | None]:
    interval, p50 = quality.interval, quality.p50_ms
    return [
        quality.tier,
        f"{quality.answered:,}",
        None if quality.mean is None else percent(quality.mean),
        None if interval is None else f"{percent(interval.low)} to {percent(interval.high)}",
        _cost(quality),
        None if p50 is None else seconds(p50),
        *_against(quality.against),
    ]


def _cost(quality: Quality) -> str | None:
    if not quality.answered:
        return None
    if quality.unpriced == quality.answered:
        return "unknown"
    return dollars(quality.cost) + (" and more" if quality.unpriced else "")


def _against(difference: Difference | None) -> list[str | None]:
    if difference is None:
        return []
    interval, p = difference.interval, difference.p
    points = f"{100 * difference.mean:+.1f}"
    if interval:
        points += f" ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"
    verdict = "too few rows" if difference.verdict == "too few" else difference.verdict
    return [verdict, points, None if p is None else f"{p:.2g}"]


def _cheapest(group: Group) -> str:
    if group.cheapest:
        return group.cheapest
    if not any(quality.against for quality in group.qualities):
        return "nothing to compare"
    if not group.reference_is_useful:
        return f"unknown: {group.reference} itself gets almost nothing right"
    return "too few rows to tell"


def _echo_failures(failures: Failures) -> None:
    for (who, reason), lines in failures.lines.items():
        numbers = ", ".join(map(str, lines[:5]))
        more = f" and {len(lines) - 5:,} more" if len(lines) > 5 else ""
        echo_note(f"{who}: line{'' if len(lines) == 1 else 's'} {numbers}{more}: {reason}")


def _apply(groups: Sequence[Group], tiers: Sequence[Tier], *, yes: bool) -> None:
    """Show the changes of the tasks' complexities, and write them to the config."""
    changes = dict(_changes(groups, {tier.name: tier for tier in tiers}))
    if not changes:
        echo_note("nothing to apply")
        return
    path = config_path()
    before = path.read_text("utf-8") if path.exists() else ""
    after = edit.with_tasks(changes)
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    click.echo("".join(unified_diff(old, new, str(path), str(path))), err=True)
    if yes or click.confirm("Write these changes?", err=True):
        edit.write(after)
        echo_note(f"{path} written")


def _changes(groups: Sequence[Group], by_name: dict[str, Tier]) -> Iterator[tuple[str, int]]:
    """The tasks that need a different complexity, with the nearest one that their tier covers."""
    settings = load_settings().config
    for group in groups:
        if group.name is None or group.cheapest is None:
            echo_note(f"{group.name}: unchanged: {_cheapest(group)}")
            continue
        span = by_name[group.cheapest].complexity
        if span.low > span.high:
            echo_note(f"{group.name}: unchanged: no complexity leads to {group.cheapest}")
            continue
        known = settings.tasks.get(group.name)
        now = known.complexity if known else settings.default_complexity
        nearest = min(max(now, span.low), span.high)
        if nearest != now or not known:
            yield group.name, nearest
