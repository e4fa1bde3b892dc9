"""Fit the coefficients, measure them, time them: `python -m llm_tiered.estimator.fit --help`.

Needs numpy, which comes with MLX. Nothing of this is imported by an estimate.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import evaluate, simulate
from .data import Question, read
from .features import FEATURES
from .model import CLIP, COEFFICIENTS, Coefficients, Weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy import float64
    from numpy.typing import NDArray

WEIGHTS = {"RouteLLM/mmlu": 1.0, "LLMRouter/dcrouter": 5.0}
"""What all groups of a source weigh together. MMLU has most of the data and is one kind of
prompt; the groups of the other source are a kind each."""

RIDGE = 60.0
"""Penalty on the weights, for standardised features and a mean weight of 1 a question."""

GROUP_RIDGE = 6.0
"""Penalty on the level of each group. The levels take up what comes from a benchmark's own way
of scoring, so that the weights are left with what makes one prompt harder than another."""

LEAST = {"length": 0.25}
"""Least weights; all others are 0."""

SMALL_SHARE, LARGE_SHARE = 0.35, 0.15
"""Shares of the fitted prompts that get a complexity of 1 to 4, and of 8 to 10."""


def fit(questions: Sequence[Question]) -> Coefficients:
    """Fit the chance that a small model gets a prompt wrong.

    A logistic model by Newton's method, with a penalised level for each group and no weight
    below zero: every feature is one that makes a prompt harder, and where the data says
    otherwise it says so about its own benchmarks only.
    """
    import numpy as np

    values = np.array([question.measured.values for question in questions])
    mean, spread = values.mean(axis=0).round(4), values.std(axis=0).round(4)
    spread[spread == 0] = 1.0
    standard = np.clip((values - mean) / spread, -CLIP, CLIP)
    intercept, weights = _logistic(standard, questions)
    # Rounded before the scale is laid, so that it fits the model as it is written.
    intercept, weights = round(float(intercept), 4), weights.round(4)
    low, high = np.quantile(intercept + standard @ weights, [SMALL_SHARE, 1 - LARGE_SHARE])
    # The two lie where 4 turns into 5 and 7 into 8: three steps apart.
    step = float(high - low) / 3
    return Coefficients(
        intercept=intercept,
        medium=round(float(low) + step / 2, 4),
        step=round(step, 4),
        features=tuple(
            Weight(float(m), float(s), float(w))
            for m, s, w in zip(mean, spread, weights, strict=True)
        ),
    )


def _logistic(
    standard: NDArray[float64], questions: Sequence[Question]
) -> tuple[float, NDArray[float64]]:
    """Intercept and weights, none of them below zero."""
    import numpy as np

    groups = sorted({question.group for question in questions})
    level = np.array([groups.index(question.group) for question in questions])
    rows, features = standard.shape
    design = np.hstack([np.ones((rows, 1)), standard, np.eye(len(groups))[level]])
    wrong = np.array([1 - question.small for question in questions])
    importance = _importance(questions)
    penalty = np.array([0.0] + [RIDGE] * features + [GROUP_RIDGE] * len(groups))
    least = np.array(
        [-np.inf] + [LEAST.get(name, 0.0) for name in FEATURES] + [-np.inf] * len(groups)
    )
    solution: NDArray[float64] = np.zeros(design.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-design @ solution))
        curvature = (design * (importance * chance * (1 - chance))[:, None]).T @ design
        curvature += np.diag(penalty)
        gradient = design.T @ (importance * (wrong - chance)) - penalty * solution
        target = curvature @ solution + gradient
        following = _solve(curvature, target, least)
        moved = np.abs(following - solution).max()
        solution = following
        if moved < 1e-8:
            break
    return solution[0], solution[1 : features + 1]


def _solve(
    curvature: NDArray[float64], target: NDArray[float64], least: NDArray[float64]
) -> NDArray[float64]:
    """Solve `curvature @ x = target` with no x below its least.

    The x that falls lowest is held at its least, one after another.
    """
    import numpy as np

    free = np.ones(len(target), dtype=bool)
    while True:
        solution = np.where(free, 0.0, least)
        rest = (target - curvature @ solution)[free]
        solution[free] = np.linalg.solve(curvature[np.ix_(free, free)], rest)
        short = np.where(free, least - solution, 0.0)
        if short.max() <= 0:
            return solution
        free[int(np.argmax(short))] = False


def _importance(questions: Sequence[Question]) -> NDArray[float64]:
    """The weight of each question, 1 on average.

    Within a source a group counts for the square root of its size.
    """
    import numpy as np

    sizes = Counter(question.group for question in questions)
    roots: dict[str, float] = defaultdict(float)
    for question in questions:
        roots[question.source] += sizes[question.group] ** -0.5
    weights = np.array(
        [
            WEIGHTS[question.source] / roots[question.source] * sizes[question.group] ** -0.5
            for question in questions
        ]
    )
    weights /= weights.mean()
    return weights


def write(model: Coefficients, path: Path) -> None:
    """Write the file that comes with the package."""
    about = "fitted by python -m llm_tiered.estimator.fit; not edited by hand"
    content = {"about": about} | model.as_dict()
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8", newline="\n")


@click.command()
@click.argument(
    "data", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--write", "write_", is_flag=True, help="Fit all of DATA and rewrite the coefficients."
)
@click.option(
    "--evaluate", "evaluate_", is_flag=True, help="Print APGR with whole groups left out."
)
@click.option(
    "--learning", "learning_", is_flag=True, help="Print what learning from answers gives users."
)
@click.option("--time", "time_", is_flag=True, help="Print how long an estimate takes.")
def main(data: Path | None, write_: bool, evaluate_: bool, learning_: bool, time_: bool) -> None:
    """Fit, measure and time the estimator. DATA has one JSON object a line."""
    if (write_ or evaluate_ or learning_) and data is None:
        raise click.UsageError("--write, --evaluate and --learning need DATA")
    if data is not None:
        questions = read(data)
        if write_:
            write(fit(questions), COEFFICIENTS)
            click.echo(f"wrote {COEFFICIENTS}")
        if evaluate_:
            _show(questions)
        if learning_:
            _show_learning(questions)
    if time_:
        for name, prompts in evaluate.samples().items():
            median, most = evaluate.times(prompts)
            click.echo(f"{name}: {median:.3f} ms p50, {most:.3f} ms p99")


def _show(questions: Sequence[Question]) -> None:
    from tabulate import tabulate

    rows = evaluate.table(questions, evaluate.left_out(questions, fit))
    click.echo("APGR, each group scored by a fit without it (low, high: 95 % interval)")
    columns = ("", "n", *evaluate.Row._fields[2:])
    click.echo(tabulate(rows, columns, tablefmt="plain", floatfmt=".3f"))
    click.echo("\nThe scale, as shipped")
    scale = evaluate.shares(questions)
    headers = ("complexity", "share", "small model wrong")
    click.echo(tabulate(scale, headers, tablefmt="plain", floatfmt=".3f"))


def _show_learning(questions: Sequence[Question]) -> None:
    from tabulate import tabulate

    click.echo("Users with prompts of groups that the fit has not seen, before and after learning")
    headers = ("answers", "users better", "log-loss", "then", "AUC", "then")
    rows = simulate.gains(questions, fit)
    click.echo(tabulate(rows, headers, tablefmt="plain", floatfmt=".3f"))


if __name__ == "__main__":
    main()
