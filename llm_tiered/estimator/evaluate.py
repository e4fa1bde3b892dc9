"""How good the estimates are: APGR with whole groups left out, shares of the scale, times."""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from .features import SCANNED
from .model import estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy import float64
    from numpy.typing import NDArray

    from .data import Question
    from .model import Coefficients

    Fit = Callable[[Sequence[Question]], Coefficients]

SAMPLES = 400
"""Bootstrap samples behind each interval."""

FEWEST = 50
"""Questions of a group that is told by itself."""


class Row(NamedTuple):
    """One line of the table: APGR by estimate, with its interval of 95 %, and by others.

    `gap` is what the large model gets right beyond the small one. `auc` says how well the
    estimate itself does: how often the harder of two prompts has the higher score.
    """

    name: str
    questions: int
    gap: float
    estimate: float
    low: float
    high: float
    length: float
    random: float
    oracle: float
    auc: float
    auc_length: float


def left_out(questions: Sequence[Question], fit: Fit) -> list[float]:
    """The log-odds of each question, from a fit without any question of its group."""
    models = {
        group: fit([question for question in questions if question.group != group])
        for group in sorted({question.group for question in questions})
    }
    return [models[question.group].log_odds(question.measured) for question in questions]


def apgr(score: NDArray[float64], small: NDArray[float64], large: NDArray[float64]) -> float:
    """Average performance gap recovered: the highest scores go to the large model.

    The share that goes there is raised from 0 to 100 % in steps of 10. The accuracy that this
    gains over the small model is averaged, and divided by what there is to gain. Equal scores
    count as if in any order. Random scores give 0.5.
    """
    import numpy as np

    _, rank = np.unique(-score, return_inverse=True)
    mean_gain = np.bincount(rank, large - small) / np.bincount(rank)
    gained = np.concatenate([[0.0], np.cumsum(mean_gain[np.sort(rank)])])
    curve = np.interp(np.linspace(0, len(score), 11), np.arange(len(gained)), gained)
    return float(np.mean((curve[1:] + curve[:-1]) / 2) / gained[-1])


def auc(score: NDArray[float64], wrong: NDArray[float64]) -> float:
    """How often a prompt that went wrong has a higher score than one that went right.

    `wrong` may be between 0 and 1. Equal scores count half.
    """
    import numpy as np

    _, rank = np.unique(score, return_inverse=True)
    wrong_at, right_at = np.bincount(rank, wrong), np.bincount(rank, 1 - wrong)
    below = np.cumsum(right_at) - right_at / 2
    return float((wrong_at * below).sum() / (wrong_at.sum() * right_at.sum()))


def table(questions: Sequence[Question], scores: Sequence[float]) -> Iterator[Row]:
    """A row for each source, and for each group that is a kind of its own.

    MMLU gets one more without the subjects where the large model does worse than the small
    one: in high_school_mathematics its answers are hardly ever in the right format.
    """
    by_group = defaultdict(list)
    for number, question in enumerate(questions):
        by_group[question.source, question.group].append(number)
    for source in sorted({source for source, _ in by_group}):
        groups = {group: here for (of, group), here in by_group.items() if of == source}
        yield _row(source, questions, scores, groups.values())
        if source.endswith("mmlu"):
            better = [
                here
                for here in groups.values()
                if sum(questions[number].large - questions[number].small for number in here) >= 0
            ]
            yield _row(f"{source}, large better", questions, scores, better)
        else:
            for group in sorted(groups):
                if len(groups[group]) >= FEWEST:
                    yield _row(group, questions, scores, [groups[group]])


def _row(
    name: str,
    questions: Sequence[Question],
    scores: Sequence[float],
    groups: Iterable[list[int]],
) -> Row:
    import numpy as np

    here = [number for group in groups for number in group]
    asked = [questions[number] for number in here]
    score = np.array([scores[number] for number in here])
    small = np.array([question.small for question in asked])
    large = np.array([question.large for question in asked])
    length = np.array([float(len(question.prompt)) for question in asked])
    generator = np.random.default_rng(0)
    samples = generator.integers(len(here), size=(SAMPLES, len(here)))
    drawn = [apgr(score[sample], small[sample], large[sample]) for sample in samples]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Row(
        name=name,
        questions=len(here),
        gap=float((large - small).mean()),
        estimate=apgr(score, small, large),
        low=float(low),
        high=float(high),
        length=apgr(length, small, large),
        random=apgr(generator.random(len(here)), small, large),
        oracle=apgr(large - small, small, large),
        auc=auc(score, 1 - small),
        auc_length=auc(length, 1 - small),
    )


def shares(questions: Sequence[Question]) -> list[tuple[int, float, float]]:
    """Each complexity that is given, as shipped: its share, and how often it went wrong there."""
    wrong = defaultdict(list)
    for question in questions:
        wrong[estimate(question.prompt).complexity].append(1 - question.small)
    return [
        (level, len(wrong[level]) / len(questions), fmean(wrong[level])) for level in sorted(wrong)
    ]


def times(prompts: Sequence[str]) -> tuple[float, float]:
    """Milliseconds of an estimate: the median, and what 99 of 100 stay under."""
    estimate(prompts[0])
    taken = []
    for prompt in prompts:
        started = time.perf_counter()
        estimate(prompt)
        taken.append((time.perf_counter() - started) * 1000)
    taken.sort()
    return taken[len(taken) // 2], taken[int(len(taken) * 0.99)]


def samples() -> dict[str, list[str]]:
    """Prompts to time, by what they are: each is different, so that nothing is remembered."""
    sentence = "Why does the balance of a trade change if {} people pay {} euros each? "
    texts = {"400 characters": 400, "scanned in full": SCANNED, "100,000 characters": 100_000}
    return {
        name: [
            "".join(sentence.format(start + n, n * 7) for n in range(size // 70 + 1))[:size]
            for start in range(300)
        ]
        for name, size in texts.items()
    }
