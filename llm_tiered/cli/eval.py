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
from ..config import edit as config_edit
from ..config.settings import load_settings
from ..errors import RequestError, TieredError
from ..evaluation import report, suite
from ..evaluation.asking import QuestionAsker
from ..evaluation.run import find_judges, run
from ..evaluation.significance import MARGIN
from ..evaluation.tiers import select_tiers
from ..paths import config_path
from ..wording import counted, dollars
from .batch import WrongUsage
from .output import echo_json, echo_table, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..config.sections import Tier
    from ..evaluation.asking import Failures
    from ..evaluation.report import Group, Quality
    from ..evaluation.run import Outcome
    from ..evaluation.significance import Difference
    from ..evaluation.suite import Suite


@click.command("eval")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("names", "--tiers", metavar="TIER,…", help="Tiers to ask; without it, all of them")
@click.option("--judge", metavar="MODEL", help="Model that scores by rubrics")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where each answer goes with its score; without it, beside FILE",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Requests to the cloud at a time",
)
@click.option("--restart", is_flag=True, help="Begin anew: ask everything again")
@click.option("--apply", is_flag=True, help="Set the tasks' complexities in the config accordingly")
@click.option("--yes", is_flag=True, help="With --apply, don't ask first")
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
    """Find out how good each tier is on prompts with known answers, and which is good enough.

    FILE is JSONL. A row has a prompt, if wanted id, system, task and options, and what a right
    answer is: exact, contains (text or a list), regex, schema (which the models are told, too),
    numeric (the last number of the answer, with tolerance), or judge (a rubric, scored by another
    model). All that is given has to hold.

    A tier is as good as the cloud if no test finds it worse and, with 95 % confidence, it is at
    most 10 points worse: with few rows, that can't be told. Started again, only what is not
    answered yet is asked.

    Exits with 0 if all rows ran, 1 if any failed to, 2 for a wrong suite or usage, 130 after
    Ctrl-C.
    """
    output = output or file.with_suffix(".results.jsonl")
    with ExitStack() as stack:
        try:
            found = suite.read(file, judge)
            if apply and not any(case.task for case in found.cases):
                raise RequestError(f"--apply: no row of {file} has a task")
            wanted = select_tiers(names)
            judges = find_judges(found.cases)
            if output.exists() and output.samefile(file):
                raise RequestError(f"{output} is the suite itself", fix="another -o")
            journal = Journal(output, restart=restart)
            stack.callback(journal.close)
        except (TieredError, OSError) as error:
            raise WrongUsage(str(error)) from error
        for bad in found.bad:
            _tell(f"line {bad.line}: {bad.error}")
        try:
            outcome = run(found.cases, wanted, judges, QuestionAsker(journal, concurrency))
        except KeyboardInterrupt:
            _tell("Stopped: the same command goes on from here")
            context.exit(130)
        _write(output, found, outcome)
    groups = report.groups(found.cases, wanted, outcome.scores)
    if json_:
        echo_json(_facts(file, output, found, outcome, groups))
    else:
        _echo(groups, outcome)
    _tell_failures(outcome.failures)
    if apply:
        _apply(groups[1:], wanted, yes=yes)
    if found.bad or outcome.failures.lines:
        context.exit(1)


def _write(output: Path, found: Suite, outcome: Outcome) -> None:
    """Write a line for each answer: what was asked is in the suite, on the line of that number."""
    lines = []
    for case in found.cases:
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
    try:
        output.write_bytes(b"".join(lines))
    except OSError as error:
        raise TieredError(f"{output} can't be written: {error.strerror}") from None


def _facts(
    file: Path, output: Path, found: Suite, outcome: Outcome, groups: Sequence[Group]
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
        "bad": [{"line": bad.line, "error": bad.error} for bad in found.bad],
        "failures": [
            {"who": who, "reason": reason, "lines": lines}
            for (who, reason), lines in outcome.failures.lines.items()
        ],
    }


def _echo(groups: Sequence[Group], outcome: Outcome) -> None:
    echo_table([[quality.tier, quality.model] for quality in groups[0].qualities])
    for group in groups:
        rows = counted(group.cases, "row")
        click.echo(f"\n{group.name or 'all'}: {rows}")
        headers = ["tier", "answered", "quality", "95 %", "cost", "p50"]
        headers += [f"against {group.reference}", "points", "p"]
        echo_table([_row(quality) for quality in group.qualities], headers)
        click.echo(f"cheapest that is as good as {group.reference}: {_cheapest(group)}")
    found = [quality.against for group in groups for quality in group.qualities if quality.against]
    tests = sorted({difference.test for difference in found})
    if tests:
        click.echo(f"\ntests: {', '.join(tests)}")
    if outcome.judging:
        known = [cost for cost in outcome.judging if cost is not None]
        cost = dollars(sum(known, Decimal(0))) if known else "unknown"
        more = " and more" if 0 < len(known) < len(outcome.judging) else ""
        click.echo(f"judges' replies: {len(outcome.judging):,}, cost: {cost}{more}")


def _row(quality: Quality) -> list[str | None]:
    interval, p50 = quality.interval, quality.p50_ms
    return [
        quality.tier,
        f"{quality.answered:,}",
        None if quality.mean is None else f"{quality.mean:.1%}",
        None if interval is None else f"{interval.low:.1%} to {interval.high:.1%}",
        _cost(quality),
        None if p50 is None else f"{p50 / 1000:.2f} s",
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
        return f"can't be told: {group.reference} itself gets next to nothing right"
    return "too few rows to tell"


def _tell_failures(failures: Failures) -> None:
    for (who, reason), lines in failures.lines.items():
        shown = ", ".join(str(line) for line in lines[:5])
        more = f" and {len(lines) - 5:,} more" if len(lines) > 5 else ""
        _tell(f"{who}: line{'' if len(lines) == 1 else 's'} {shown}{more}: {reason}")


def _apply(groups: Sequence[Group], wanted: Sequence[Tier], *, yes: bool) -> None:
    """Set the complexity of each task whose tier is known, after showing what would change."""
    changes = dict(_changes(groups, {tier.name: tier for tier in wanted}))
    if not changes:
        _tell("nothing to apply")
        return
    path = config_path()
    before = path.read_text("utf-8") if path.exists() else ""
    after = config_edit.with_tasks(changes)
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    click.echo("".join(unified_diff(old, new, str(path), str(path))), err=True)
    if yes or click.confirm("Write this?", err=True):
        config_edit.write(after)
        _tell(f"{path} written")


def _changes(groups: Sequence[Group], by_name: dict[str, Tier]) -> Iterator[tuple[str, int]]:
    """The tasks that have to get another complexity, with the nearest one of their tier's."""
    settings = load_settings().config
    for group in groups:
        if group.name is None or group.cheapest is None:
            _tell(f"{group.name}: left as it is: {_cheapest(group)}")
            continue
        span = by_name[group.cheapest].complexity
        known = settings.tasks.get(group.name)
        now = known.complexity if known else settings.default_complexity
        nearest = min(max(now, span.low), span.high)
        if span.low <= span.high and (nearest != now or not known):
            yield group.name, nearest


def _tell(line: str) -> None:
    click.echo(line, err=True)
