"""Scores → the quality of each tier, and the cheapest tier that is as good as the cloud."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from .significance import MARGIN, compare, mean_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..config.tiers import Tier
    from .significance import Difference, Interval
    from .suite import Case
    from .tiers import TierAnswer


@dataclass(frozen=True)
class Score:
    """The score of a tier's answer to a case, from 0 to 1, and the reason if it is below 1."""

    value: float
    why: str | None
    answer: TierAnswer


@dataclass(frozen=True)
class Quality:
    """The results of a tier on a group of cases.

    `cost` is in dollars, for the answers whose price is known; `unpriced` counts the others.
    `p50_ms` is the median time of an answer. `against` compares the tier with the reference of
    the group, and is None for the reference itself and if the two have no case in common.
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
        """Dollars per answer, or None if unknown."""
        return None if self.unpriced or not self.answered else self.cost / self.answered


@dataclass(frozen=True)
class Group:
    """The tiers on a group of cases: those of one task, or all cases, with None as the name.

    `reference` is the tier that the others are compared with: the cloud, or the highest tier if
    there is no cloud tier.
    """

    name: str | None
    cases: int
    qualities: list[Quality]
    reference: str

    @property
    def cheapest(self) -> str | None:
        """The cheapest tier that is as good as the reference, or the reference itself.

        None if this is unknown: the reference gets almost nothing right, or no tier is known to
        be as good and at least one might be.
        """
        others = [quality for quality in self.qualities if quality.tier != self.reference]
        if not others or not self.reference_is_useful:
            return None
        verdicts = {
            quality.tier: quality.against.verdict if quality.against else "too few"
            for quality in others
        }
        # With equal prices, such as those of local tiers, the lower tier is the cheaper one.
        for quality in sorted(others, key=_price):
            if verdicts[quality.tier] == "as good":
                return quality.tier
        return self.reference if set(verdicts.values()) == {"worse"} else None

    @property
    def reference_is_useful(self) -> bool:
        """Whether the reference gets enough right for another tier to be measurably worse."""
        [mean] = [quality.mean for quality in self.qualities if quality.tier == self.reference]
        return mean is not None and mean > MARGIN

    def as_dict(self) -> dict[str, Any]:
        """The group as JSON values."""
        return {
            "rows": self.cases,
            "compared_with": self.reference,
            "cheapest": self.cheapest,
            "tiers": [_as_dict(quality) for quality in self.qualities],
        }


def groups(
    cases: Sequence[Case], tiers: Sequence[Tier], scores: Mapping[str, Mapping[str, Score]]
) -> list[Group]:
    """Return the group of all cases, then one for each task, by name.

    `scores` is by tier, then by the key of the case.
    """
    tasks = sorted({case.task for case in cases if case.task})
    return [_group(None, cases, tiers, scores)] + [
        _group(task, [case for case in cases if case.task == task], tiers, scores) for task in tasks
    ]


def _group(
    name: str | None,
    cases: Sequence[Case],
    tiers: Sequence[Tier],
    scores: Mapping[str, Mapping[str, Score]],
) -> Group:
    own = {
        tier.name: {
            case.row.key: scores[tier.name][case.row.key]
            for case in cases
            if case.row.key in scores[tier.name]
        }
        for tier in tiers
    }
    reference = next((tier for tier in reversed(tiers) if tier.place == "cloud"), tiers[-1])
    graded = any(case.expected.judge for case in cases)
    qualities = [
        _quality(
            tier, own[tier.name], None if tier is reference else own[reference.name], graded=graded
        )
        for tier in tiers
    ]
    return Group(name, len(cases), qualities, reference.name)


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
        against = compare(
            [scores[key].value for key in common],
            [reference[key].value for key in common],
            graded=graded,
        )
    return Quality(
        tier=tier.name,
        model=", ".join(models) or tier.model_id,
        answered=len(values),
        mean=fmean(values) if values else None,
        interval=mean_interval(values, graded=graded) if values else None,
        cost=sum(known, Decimal(0)),
        unpriced=len(costs) - len(known),
        p50_ms=median(score.answer.ms for score in scores.values()) if values else None,
        against=against,
    )


def _price(quality: Quality) -> tuple[bool, Decimal]:
    """A sort key: known prices first, the lowest at the beginning."""
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
