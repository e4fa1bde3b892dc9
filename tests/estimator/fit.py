"""Fit, measure and time the shipped coefficients: `python -m tests.estimator.fit --help`.

Needs numpy, which comes with MLX. The package itself ships only the result, `coefficients.json`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from tabulate import tabulate

from llm_tiered.estimator.model import COEFFICIENTS, Coefficients, FeatureWeight
from tests.estimator import evaluate, simulate
from tests.estimator.questions import Question, read_questions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy import float64
    from numpy.typing import NDArray

WEIGHTS = {"RouteLLM/mmlu": 1.0, "LLMRouter/dcrouter": 14.0}
"""Total weight of the groups of each source. MMLU has most of the data but only one kind of
prompt; each of the 14 groups of the other source is a kind of its own."""

RIDGE = 200.0
"""Penalty on the weights, for standardised features and a mean weight of 1 per question."""

GROUP_RIDGE = 6.0
"""Penalty on the level of each group. The levels absorb a benchmark's own way of scoring, so that
the weights express only what makes one prompt harder than another."""

SMALL_SHARE, LARGE_SHARE = 0.43, 0.15
"""Shares of the fitted prompts that get a complexity of 1 to 4, and of 8 to 10; all kinds of
prompts count the same."""


def fit(questions: Sequence[Question]) -> Coefficients:
    """Fit the probability that a small model answers a prompt wrongly.

    This is a logistic model, fitted by Newton's method, with a penalised level for each group.
    """
    values = np.array([question.measures.values for question in questions])
    mean, spread = values.mean(axis=0).round(4), values.std(axis=0).round(4)
    spread[spread == 0] = 1.0
    standard = (values - mean) / spread
    importance = _importance(questions)
    intercept, weights = _logistic(standard, questions, importance)
    # Rounded first, so that the scale matches the coefficients that are written.
    intercept, weights = round(float(intercept), 4), weights.round(4)
    low, high = _quantiles(intercept + standard @ weights, importance)
    # The two are the limits between 4 and 5 and between 7 and 8: three steps apart.
    step = (high - low) / 3
    return Coefficients(
        intercept=intercept,
        medium=round(low + step / 2, 4),
        step=round(step, 4),
        features=tuple(
            FeatureWeight(float(m), float(s), float(w))
            for m, s, w in zip(mean, spread, weights, strict=True)
        ),
    )


def _logistic(
    standard: NDArray[float64], questions: Sequence[Question], importance: NDArray[float64]
) -> tuple[float, NDArray[float64]]:
    """Return the intercept and the weights."""
    groups = sorted({question.group for question in questions})
    level = np.array([groups.index(question.group) for question in questions])
    rows, features = standard.shape
    design = np.hstack([np.ones((rows, 1)), standard, np.eye(len(groups))[level]])
    wrong = np.array([1 - question.small for question in questions])
    penalty = np.array([0.0] + [RIDGE] * features + [GROUP_RIDGE] * len(groups))
    solution: NDArray[float64] = np.zeros(design.shape[1])
    for _ in range(50):
        probability = 1 / (1 + np.exp(-design @ solution))
        hessian = (design * (importance * probability * (1 - probability))[:, None]).T @ design
        gradient = design.T @ (importance * (wrong - probability)) - penalty * solution
        move = np.linalg.solve(hessian + np.diag(penalty), gradient)
        solution += move
        if np.abs(move).max() < 1e-8:
            break
    return solution[0], solution[1 : features + 1]


def _quantiles(log_odds: NDArray[float64], importance: NDArray[float64]) -> tuple[float, float]:
    """Return the log-odds below which SMALL_SHARE is, and above which LARGE_SHARE is."""
    order = np.argsort(log_odds)
    share = np.cumsum(importance[order]) / importance.sum()
    low, high = log_odds[order][np.searchsorted(share, [SMALL_SHARE, 1 - LARGE_SHARE])]
    return float(low), float(high)


def _importance(questions: Sequence[Question]) -> NDArray[float64]:
    """Return the weight of each question, 1 on average.

    Within a source, a group counts for the square root of its size.
    """
    sizes = Counter(question.group for question in questions)
    roots: dict[str, float] = defaultdict(float)
    for group, source in {question.group: question.source for question in questions}.items():
        roots[source] += sizes[group] ** 0.5
    weights: NDArray[float64] = np.array(
        [
            WEIGHTS[question.source] / roots[question.source] * sizes[question.group] ** -0.5
            for question in questions
        ]
    )
    weights /= weights.mean()
    return weights


def write(model: Coefficients, path: Path) -> None:
    """Write the file that ships with the package."""
    about = "fitted by python -m tests.estimator.fit; not edited by hand"
    content = {"about": about} | model.as_dict()
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8", newline="\n")


@click.command()
@click.argument(
    "data", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--write", "write_", is_flag=True, help="Fit all of DATA and write the coefficients.")
@click.option(
    "--evaluate", "evaluate_", is_flag=True, help="Print the APGR with whole groups held out."
)
@click.option(
    "--learning", "learning_", is_flag=True, help="Print how much users gain by learning."
)
@click.option("--time", "time_", is_flag=True, help="Print how long an estimate takes.")
def main(data: Path | None, write_: bool, evaluate_: bool, learning_: bool, time_: bool) -> None:
    """Fit, measure and time the estimator. DATA has one JSON object per line."""
    if (write_ or evaluate_ or learning_) and data is None:
        raise click.UsageError("--write, --evaluate and --learning need DATA")
    if data is not None:
        questions = read_questions(data)
        if write_:
            write(fit(questions), COEFFICIENTS)
            click.echo(f"wrote {COEFFICIENTS}")
        if evaluate_:
            _show(questions)
        if learning_:
            _show_learning(questions)
    if time_:
        for name, prompts in evaluate.samples().items():
            median, p99 = evaluate.times(prompts)
            click.echo(f"{name}: {median:.3f} ms p50, {p99:.3f} ms p99")


def _show(questions: Sequence[Question]) -> None:
    rows = list(evaluate.table(questions, evaluate.held_out_scores(questions, fit)))
    click.echo("APGR, each group scored by a fit without it (low, high: 95% interval)")
    columns = ("", "n", *evaluate.ApgrRow._fields[2:])
    click.echo(tabulate(rows, columns, tablefmt="plain", floatfmt=".3f"))
    below = [row.name for row in rows if row.over_high < 0]
    click.echo(f"\nBelow length by more than the interval: {', '.join(below) or 'none'}")
    click.echo("\nThe scale, as shipped")
    headers = ("complexity", "share", "small model wrong")
    click.echo(tabulate(evaluate.shares(questions), headers, tablefmt="plain", floatfmt=".3f"))


def _show_learning(questions: Sequence[Question]) -> None:
    click.echo("Users with prompts of groups that were not fitted, before and after learning")
    headers = ("answers", "users better", "log-loss", "then", "AUC", "then")
    rows = simulate.gains(questions, fit)
    click.echo(tabulate(rows, headers, tablefmt="plain", floatfmt=".3f"))


if __name__ == "__main__":
    main()
