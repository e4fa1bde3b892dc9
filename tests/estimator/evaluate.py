"""How good the estimates are: APGR with whole groups held out, the use of the scale, and times."""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llm_tiered.estimator.features import SCANNED
from llm_tiered.estimator.measures import Scored, auc
from llm_tiered.estimator.model import estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy import float64
    from numpy.typing import NDArray

    from llm_tiered.estimator.model import Coefficients
    from tests.estimator.questions import Question

    Fit = Callable[[Sequence[Question]], Coefficients]

SAMPLES = 400
"""Bootstrap samples behind each interval."""

FEWEST, FEWEST_GAINS = 50, 10.0
"""Number of questions, and of questions that only the large model answers well, on balance, from
which a group gets a row of its own."""


class ApgrRow(NamedTuple):
    """One row of the table: the APGR of the estimate with its 95% interval, and of other scores.

    `gap` is the accuracy of the large model minus that of the small one. `over` is the advantage
    of the estimate over the length in characters, with its own, paired interval. `auc` is how often
    the harder of two prompts has the higher estimate.
    """

    name: str
    questions: int
    gap: float
    estimate: float
    low: float
    high: float
    length: float
    over: float
    over_low: float
    over_high: float
    random: float
    oracle: float
    auc: float
    auc_length: float


def held_out_scores(questions: Sequence[Question], fit: Fit) -> list[float]:
    """Return the log-odds of each question, from a fit without the questions of its group."""
    models = {
        group: fit([question for question in questions if question.group != group])
        for group in sorted({question.group for question in questions})
    }
    return [models[question.group].log_odds(question.measures) for question in questions]


def apgr(score: NDArray[float64], small: NDArray[float64], large: NDArray[float64]) -> float:
    """Return the average performance gap recovered if the highest scores go to the large model.

    The share that goes to the large model rises from 0 to 100% in steps of 10. The accuracy gained
    over the small model is averaged, and divided by the gain of sending everything. Equal scores
    count as if they were in random order. Random scores give 0.5.
    """
    return _gained(score, large - small) / float((large - small).sum())


def _gained(score: NDArray[float64], gain: NDArray[float64]) -> float:
    """The average gain, in questions."""
    _, rank = np.unique(-score, return_inverse=True)
    mean_gain = np.bincount(rank, gain) / np.bincount(rank)
    gained = np.concatenate([[0.0], np.cumsum(mean_gain[np.sort(rank)])])
    curve = np.interp(np.linspace(0, len(score), 11), np.arange(len(gained)), gained)
    return float(np.mean((curve[1:] + curve[:-1]) / 2))


def table(questions: Sequence[Question], scores: Sequence[float]) -> Iterator[ApgrRow]:
    """Yield a row for each source, and for each of its large groups in which the large model helps.

    MMLU has a second row without the subjects in which the large model does worse than the small
    one: in high_school_mathematics its answers are hardly ever in the right format. Where it is
    right on fewer than FEWEST_GAINS more questions, there is nothing to measure.
    """
    by_group = defaultdict(list)
    for number, question in enumerate(questions):
        by_group[question.source, question.group].append(number)
    for source in sorted({source for source, _ in by_group}):
        groups = {group: numbers for (of, group), numbers in by_group.items() if of == source}
        gains = {
            group: sum(questions[number].large - questions[number].small for number in numbers)
            for group, numbers in groups.items()
        }
        yield _row(source, questions, scores, groups.values())
        if min(gains.values()) < 0:
            better = [numbers for group, numbers in groups.items() if gains[group] >= 0]
            yield _row(f"{source}, large better", questions, scores, better)
        for group in sorted(groups):
            if len(groups[group]) >= FEWEST and gains[group] >= FEWEST_GAINS:
                yield _row(group, questions, scores, [groups[group]])


def _row(
    name: str,
    questions: Sequence[Question],
    scores: Sequence[float],
    groups: Iterable[list[int]],
) -> ApgrRow:
    numbers = [number for group in groups for number in group]
    members = [questions[number] for number in numbers]
    score = np.array([scores[number] for number in numbers])
    small = np.array([question.small for question in members])
    large = np.array([question.large for question in members])
    length = np.array([float(len(question.prompt)) for question in members])
    generator = np.random.default_rng(0)
    gain = large - small
    drawn = generator.integers(len(numbers), size=(SAMPLES, len(numbers)))
    samples = [sample for sample in drawn if gain[sample].sum() > 0]
    values = [apgr(score[sample], small[sample], large[sample]) for sample in samples]
    low, high = np.percentile(values, [2.5, 97.5])
    over = [
        (_gained(score[sample], gain[sample]) - _gained(length[sample], gain[sample])) / gain.sum()
        for sample in samples
    ]
    over_low, over_high = np.percentile(over, [2.5, 97.5])
    return ApgrRow(
        name=name,
        questions=len(numbers),
        gap=float((large - small).mean()),
        estimate=apgr(score, small, large),
        low=float(low),
        high=float(high),
        length=apgr(length, small, large),
        over=apgr(score, small, large) - apgr(length, small, large),
        over_low=float(over_low),
        over_high=float(over_high),
        random=apgr(generator.random(len(numbers)), small, large),
        oracle=apgr(large - small, small, large),
        auc=auc(map(Scored, score, 1 - small)),
        auc_length=auc(map(Scored, length, 1 - small)),
    )


def shares(questions: Sequence[Question]) -> list[tuple[int, float, float]]:
    """Return the share of each estimated complexity, and how often small models failed there."""
    failures = defaultdict(list)
    for question in questions:
        failures[estimate(question.prompt).complexity].append(1 - question.small)
    return [
        (level, len(failures[level]) / len(questions), fmean(failures[level]))
        for level in sorted(failures)
    ]


def times(prompts: Sequence[str]) -> tuple[float, float]:
    """Return the median and the 99th percentile of the milliseconds that an estimate takes."""
    estimate(prompts[0])
    milliseconds = []
    for prompt in prompts:
        started = time.perf_counter()
        estimate(prompt)
        milliseconds.append((time.perf_counter() - started) * 1000)
    milliseconds.sort()
    return milliseconds[len(milliseconds) // 2], milliseconds[int(len(milliseconds) * 0.99)]


def samples() -> dict[str, list[str]]:
    """Return prompts to time, by their size; each is different, so that nothing is cached."""
    sentence = "Why does the balance of a trade change if {} people pay {} euros each? "
    texts = {"400 characters": 400, "scanned in full": SCANNED, "100,000 characters": 100_000}
    return {
        name: [
            "".join(sentence.format(start + n, n * 7) for n in range(size // 70 + 1))[:size]
            for start in range(300)
        ]
        for name, size in texts.items()
    }
