"""`llm tiered learn`: the estimate of complexity, fitted to the user's own prompts."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ..config.settings import load_settings
from ..errors import RequestError, TieredError
from ..estimator import current, learned
from ..estimator.changes import MeasuredPrompt, changes
from ..estimator.examples import Examples, extra_steps
from ..estimator.features import measure
from ..estimator.learning import ENOUGH, FEWEST, learn
from ..estimator.model import shipped
from ..log import answers, feedback
from ..log.database import reading
from ..log.signals import Signal, signals
from ..paths import learned_path, log_path
from .output import echo_json, echo_table, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config.settings import Settings
    from ..estimator.changes import Changes
    from ..estimator.learning import Improvement, LearningResult
    from ..log.answers import LoggedAnswer

LATEST = 2_000
"""Number of recent answers to learn from, besides the marked ones."""

KINDS = {
    "good": "marked up",
    "not good": "marked down",
    "escalated": "found too weak by a check",
    "passed": "passed by a check",
    "asked again": "asked again",
    "regenerated": "regenerated",
    "moved up": "followed by a request for a higher tier",
    "evaluated": "evaluated",
}

SIGNALS = frozenset(get_args(Signal))


@click.command("learn")
@click.option(
    "suites",
    "--eval",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    multiple=True,
    help="Suite of `llm tiered eval`, to learn from its results too",
)
@click.option(
    "--no-signals",
    is_flag=True,
    help="Only learn from marks, checks and evaluations, not from questions that you asked again",
)
@click.option("--dry-run", is_flag=True, help="Only show what would change")
@click.option("--undo", is_flag=True, help="Go back to the previous estimate")
@json_option
def command(
    suites: tuple[Path, ...], no_signals: bool, dry_run: bool, undo: bool, json_: bool
) -> None:
    """Fit the estimate of complexity to your own prompts.

    This learns from your marks (llm tiered feedback) and from checked answers (-o escalate 1) of
    all tiers below the highest. What you did after an answer counts a little, too: that you asked
    the same again, had the answer regenerated or named a higher tier. The new estimate stays near
    the one that comes with the package, and is used only if it is better on prompts that it was not
    fitted to. No prompt is copied anywhere.
    """
    if undo:
        if dry_run or suites or no_signals:
            raise click.UsageError(
                "--undo can't be combined with --eval, --no-signals or --dry-run"
            )
        _undo(json_=json_)
        return
    settings = load_settings()
    logged = _read()
    examples = _examples(settings, logged, suites, use_signals=not no_signals)
    result = learn(examples.examples, shipped())
    change = None
    if result.coefficients:
        by_text = {answer.prompt.text: answer.prompt for answer in logged}
        prompts = [
            MeasuredPrompt(measure(text), extra_steps(prompt)) for text, prompt in by_text.items()
        ] or [
            MeasuredPrompt(example.measures, example.extra_steps) for example in examples.examples
        ]
        change = changes(
            prompts, current(), result.coefficients, lambda level: _place(level, settings)
        )
    written = None
    new = result.coefficients != current()
    if result.coefficients and result.verdict == "better" and new and not dry_run:
        try:
            written = learned.save(result.coefficients, _about(result, examples))
        except OSError as error:
            raise TieredError(f"{learned_path()} can't be written: {error.strerror}") from None
    if json_:
        echo_json(_facts(result, examples, change, written))
        return
    _echo(result, examples, change)
    click.echo(_outcome(result, written, new=new))


def _undo(*, json_: bool) -> None:
    try:
        file = learned.undo()
    except FileNotFoundError:
        raise RequestError("nothing has been learned, so there is nothing to undo") from None
    except OSError as error:
        raise TieredError(f"{learned_path()} can't be changed: {error.strerror}") from None
    if json_:
        echo_json({"in_force": "learned" if file else "package", "path": file})
    elif file:
        click.echo("back to the previous learned estimate; --undo again: the built-in one")
    else:
        click.echo("back to the estimate that comes with the package")


def _read() -> list[LoggedAnswer]:
    """The latest answers in the log, and all marked ones."""
    log = log_path()
    if not log.exists():
        return []
    with reading(log) as database:
        last = {answer.id: answer for answer in answers.latest(database, LATEST)}
        older = [turn for turn in feedback.marks() if turn not in last]
        return [*last.values(), *answers.by_ids(database, older)]


def _examples(
    settings: Settings,
    logged: Sequence[LoggedAnswer],
    suites: tuple[Path, ...],
    *,
    use_signals: bool,
) -> Examples:
    examples = Examples({tier.name: tier.complexity.high for tier in settings.tiers[:-1]})
    marks = feedback.marks()
    places = {tier.name: place for place, tier in enumerate(settings.tiers)}
    reactions = signals(logged, places) if use_signals else {}
    for answer in logged:
        examples.add_answer(answer, marks.get(answer.id), reactions.get(answer.id))
    for suite in suites:
        examples.add_evaluation(suite)
    return examples


def _place(level: int, settings: Settings) -> int:
    """The index of the tier that covers a complexity."""
    return next(place for place, tier in enumerate(settings.tiers) if tier.covers(level))


def _about(result: LearningResult, examples: Examples) -> dict[str, Any]:
    """The figures that are stored beside the coefficients; they contain no prompt."""
    return {
        "on": date.today().isoformat(),
        "answers": len(examples.examples),
        "prompts": result.groups,
        "log_loss": result.log_loss and result.log_loss._asdict(),
        "auc": result.auc and result.auc._asdict(),
    }


def _facts(
    result: LearningResult, examples: Examples, change: Changes | None, written: Path | None
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "answers": {
            kind.replace(" ", "_"): examples.counts[kind] for kind in (*KINDS, "last tier")
        },
        "prompts": result.groups,
        "thin": result.thin,
        "verdict": result.verdict,
        "left_out": result.log_loss
        and result.auc
        and {"log_loss": result.log_loss._asdict(), "auc": result.auc._asdict()},
        "changes": None,
        "written": written,
    }
    if change:
        weights = [weight._asdict() for weight in change.weights]
        facts["changes"] = change._asdict() | {"weights": weights}
    return facts


def _echo(result: LearningResult, examples: Examples, change: Changes | None) -> None:
    counts = [f"{examples.counts[kind]:,} {words}" for kind, words in KINDS.items()]
    counts = [text for text in counts if not text.startswith("0 ")]
    click.echo(f"{len(examples.examples):,} answers to learn from: {', '.join(counts) or 'none'}")
    if examples.counts["last tier"]:
        click.echo(
            f"{examples.counts['last tier']:,} can't be used: they come from the highest tier, "
            "the embedded model, or a tier that no longer exists"
        )
    if not SIGNALS.isdisjoint(examples.counts):
        click.echo("(--no-signals leaves out what you asked again or sent to a higher tier)")
    if result.thin:
        click.echo(f"{result.thin:,} prompts are too short, or in a language that is not supported")
    if result.log_loss is None or result.auc is None or change is None:
        return
    click.echo()
    rows = [_row("log-loss", result.log_loss), _row("order (AUC)", result.auc)]
    echo_table(rows, ["on unseen prompts", "package", "learned", "better by", "95%"])
    click.echo()
    harder = "harder" if change.level > 0 else "easier"
    click.echo(f"On average, prompts are rated {abs(change.level):.1f} steps {harder}.")
    echo_table(
        [[weight.name, f"{weight.before:.1f}", f"{weight.after:.1f}"] for weight in change.weights],
        ["feature", "steps now", "then"],
    )
    moved = change.up + change.down
    click.echo(
        f"Of {change.prompts:,} prompts, {moved:,} move to another tier: "
        f"{change.up:,} go up, {change.down:,} go down."
    )


def _row(name: str, figure: Improvement) -> list[str]:
    numbers = [f"{figure.shipped:.3f}", f"{figure.learned:.3f}", f"{figure.gain:+.3f}"]
    return [name, *numbers, f"{figure.low:+.3f} to {figure.high:+.3f}"]


def _outcome(result: LearningResult, written: Path | None, *, new: bool) -> str:
    """The result in one sentence."""
    unchanged = "the learned estimate stays" if learned_path().exists() else "nothing is changed"
    if written:
        return f"written to {written}; `llm tiered learn --undo` goes back"
    if not new:
        return "nothing new to learn; nothing is changed"
    if result.verdict == "better":
        return "better on unseen prompts; without --dry-run it would be used"
    if result.coefficients is None:
        return (
            f"too few answers: learning needs {FEWEST} good ones and {FEWEST} that were not good "
            f"enough (llm tiered feedback up or down); {unchanged}"
        )
    if result.verdict == "too few":
        return (
            f"too few prompts to be sure: with fewer than {ENOUGH}, the new estimate has to be "
            f"clearly better on unseen prompts, and it is not; {unchanged}"
        )
    return f"not better on unseen prompts; {unchanged}"
