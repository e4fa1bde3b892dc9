"""Scores → how good each tier is, and the cheapest that is as good as the cloud."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from . import significance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..config.sections import Tier
    from .significance import Difference, Interval
    from .suite import Case
    from .tiers import Answer


@dataclass(frozen=True)
class Score:
    """A tier's answer to a case, from 0 to 1, and why it is not 1."""

    value: float
    why: str | None
    answer: Answer


@dataclass(frozen=True)
class Quality:
    """What a tier did on a group of cases.

    `cost` is dollars for the answers whose price is known, `unpriced` how many others there are.
    `against` is None for the reference itself, and where they have no answered case in common.
    """

    tier: str
    model: str
    answered: int
    mean: float | None
    interval: Interval | None
    cost: Decimal
    unpriced: int
    p50_ms: float | None
    against: Difference | None

    @property
    def price(self) -> Decimal | None:
        """Dollars for an answer; None if nobody knows."""
        return None if self.unpriced or not self.answered else self.cost / self.answered


@dataclass(frozen=True)
class Group:
    """The tiers on a group of cases: those of a task, or all, which has no name.

    `reference` is what they are held against: the cloud, or the highest tier where there is none.
    """

    name: str | None
    cases: int
    qualities: list[Quality]
    reference: str

    @property
    def cheapest(self) -> str | None:
        """The cheapest tier that is as good as the reference, which may be that itself.

        None where that can't be told: the reference itself gets next to nothing right, or no tier
        is known to be as good and some may be.
        """
        others = [quality for quality in self.qualities if quality.tier != self.reference]
        if not others or not self.tells:
            return None
        verdicts = {
            quality.tier: quality.against.verdict if quality.against else "too few"
            for quality in others
        }
        # Where prices are the same, as of all local ones, the lower tier is the cheaper.
        for quality in sorted(others, key=_price):
            if verdicts[quality.tier] == "as good":
                return quality.tier
        return self.reference if set(verdicts.values()) == {"worse"} else None

    @property
    def tells(self) -> bool:
        """Whether the reference gets so much right that another can be worse at all."""
        [mean] = [quality.mean for quality in self.qualities if quality.tier == self.reference]
        return mean is not None and mean > significance.MARGIN

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "rows": self.cases,
            "compared_with": self.reference,
            "cheapest": self.cheapest,
            "tiers": [_as_dict(quality) for quality in self.qualities],
        }


def group(
    name: str | None,
    cases: Sequence[Case],
    tiers: Sequence[Tier],
    scores: Mapping[str, Mapping[str, Score]],
) -> Group:
    """What the tiers did on these cases; `scores` is by tier, then by the case's key."""
    found = {
        tier.name: {
            case.row.key: scores[tier.name][case.row.key]
            for case in cases
            if case.row.key in scores[tier.name]
        }
        for tier in tiers
    }
    reference = next((tier for tier in reversed(tiers) if not tier.local), tiers[-1])
    graded = any(case.expected.judge for case in cases)
    qualities = [
        _quality(
            tier,
            found[tier.name],
            None if tier is reference else found[reference.name],
            graded=graded,
        )
        for tier in tiers
    ]
    return Group(name, len(cases), qualities, reference.name)


def groups(
    cases: Sequence[Case], tiers: Sequence[Tier], scores: Mapping[str, Mapping[str, Score]]
) -> list[Group]:
    """All cases, then those of each task by name."""
    tasks = sorted({case.task for case in cases if case.task})
    return [group(None, cases, tiers, scores)] + [
        group(task, [case for case in cases if case.task == task], tiers, scores) for task in tasks
    ]


def _quality(
    tier: Tier,
    scores: Mapping[str, Score],
    reference: Mapping[str, Score] | None,
    *,
    graded: bool,
) -> Quality:
    values = [score.value for score in scores.values()]
    costs = [score.answer.cost for score in scores.values()]
    known = [cost for cost in costs if cost is not None]
    models = list(dict.fromkeys(score.answer.model for score in scores.values()))
    common = [key for key in scores if key in (reference or {})]
    against = None
    if reference and common:
        against = significance.compare(
            [scores[key].value for key in common],
            [reference[key].value for key in common],
            graded=graded,
        )
    return Quality(
        tier=tier.name,
        model=", ".join(models) or tier.model,
        answered=len(values),
        mean=fmean(values) if values else None,
        interval=significance.mean_interval(values, graded=graded) if values else None,
        cost=sum(known, Decimal(0)),
        unpriced=len(costs) - len(known),
        p50_ms=median(score.answer.ms for score in scores.values()) if values else None,
        against=against,
    )


def _price(quality: Quality) -> tuple[bool, Decimal]:
    return quality.price is None, quality.price or Decimal(0)


def _as_dict(quality: Quality) -> dict[str, Any]:
    against = quality.against
    return {
        "tier": quality.tier,
        "model": quality.model,
        "answered": quality.answered,
        "quality": quality.mean,
        "interval": quality.interval and vars(quality.interval),
        "cost": float(quality.cost) if quality.answered > quality.unpriced else None,
        "unpriced": quality.unpriced,
        "p50_ms": quality.p50_ms,
        "against": against and asdict(against),
    }
