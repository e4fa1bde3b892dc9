"""From scores to the cheapest tier that is good enough."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.batch.rows import Row
from llm_tiered.config.sections import Tier
from llm_tiered.evaluation.report import Group, Score, groups
from llm_tiered.evaluation.scoring import Expected
from llm_tiered.evaluation.suite import Case
from llm_tiered.evaluation.tiers import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

MODELS = {"small": "mlx/s", "medium": "mlx/m", "large": "rented/l", "cloud": "rented/c"}
FREE = dict.fromkeys(MODELS, Decimal(0))


def tier(name: str) -> Tier:
    """A tier of that name; its range does not matter here."""
    return Tier.model_validate({"name": name, "complexity": "1-10", "model": MODELS[name]})


def report(
    scores: dict[str, Sequence[float | None]],
    *,
    costs: dict[str, Any] | None = None,
    tasks: Sequence[str | None] | None = None,
    judge: str | None = None,
) -> list[Group]:
    """The groups of these scores of each tier, row by row; None has no answer."""
    rows = len(next(iter(scores.values())))
    cases = [
        Case(
            Row(number, None, "a", None, None, {}, str(number)),
            tasks[number] if tasks else None,
            Expected(judge=judge),
        )
        for number in range(rows)
    ]
    costs = FREE | (costs or {})
    found = {
        name: {
            str(number): Score(value, None, Answer(MODELS[name], "a", number, 1, 1, 1, costs[name]))
            for number, value in enumerate(values)
            if value is not None
        }
        for name, values in scores.items()
    }
    return groups(cases, [tier(name) for name in scores], found)


GOOD = [1.0] * 40
BAD = [0.0] * 10 + [1.0] * 30
UNCLEAR = [0.0] * 3 + [1.0] * 37


@pytest.mark.parametrize(
    ("small", "medium", "cloud", "expected"),
    [
        (GOOD, GOOD, GOOD, "small"),
        (BAD, GOOD, GOOD, "medium"),
        (BAD, BAD, GOOD, "cloud"),
        (UNCLEAR, GOOD, GOOD, "medium"),
        (UNCLEAR, UNCLEAR, GOOD, None),
        (UNCLEAR, BAD, GOOD, None),
        (BAD, UNCLEAR, GOOD, None),
        (GOOD[:10], GOOD[:10], GOOD[:10], None),
        ([None] * 40, GOOD, GOOD, "medium"),
        ([None] * 40, BAD, GOOD, None),
        (GOOD, GOOD, [None] * 40, None),
        ([0.0] * 40, [0.0] * 40, [0.0] * 40, None),
    ],
)
def test_cheapest(small: Any, medium: Any, cloud: Any, expected: str | None) -> None:
    """It is a tier that is known to be as good; the cloud only if all others are known not to be.

    A cloud that gets nothing right is no measure for anybody.
    """
    [found] = report({"small": small, "medium": medium, "cloud": cloud})
    assert found.cheapest == expected


@pytest.mark.parametrize(
    ("small", "large", "expected"), [(0, 0, "small"), (3, 2, "large"), (None, 2, "large")]
)
def test_cheapest_is_by_price(small: int | None, large: int, expected: str) -> None:
    """Of tiers that are as good the lowest price counts, then the place; an unknown one is last."""
    costs = {"small": None if small is None else Decimal(small), "large": Decimal(large)}
    [found] = report({"small": GOOD, "large": GOOD, "cloud": GOOD}, costs=costs)
    assert found.cheapest == expected


def test_only_common_rows_are_compared() -> None:
    """A row that one of two did not answer says nothing about the other."""
    small: list[float | None] = [None] * 20 + [1.0] * 40
    cloud: list[float | None] = [1.0] * 50 + [None] * 10
    [found] = report({"small": small, "cloud": cloud})
    ours, theirs = found.qualities
    assert ours.against
    assert (ours.answered, theirs.answered, ours.against.rows) == (40, 50, 30)


def test_without_cloud() -> None:
    """Without a cloud tier, the highest one is what others are held against."""
    [found] = report({"small": GOOD, "medium": GOOD})
    assert (found.reference, found.cheapest) == ("medium", "small")


def test_one_tier() -> None:
    """A single tier has nothing to be compared with."""
    [found] = report({"small": GOOD})
    assert (found.reference, found.cheapest) == ("small", None)


def test_tasks() -> None:
    """Each task has a group of its own, after that of all rows."""
    tasks = ["b"] * 40 + ["a"] * 40 + [None] * 10
    found = report({"small": BAD + GOOD + GOOD[:10], "cloud": GOOD + GOOD + GOOD[:10]}, tasks=tasks)
    assert [(group.name, group.cases) for group in found] == [(None, 90), ("a", 40), ("b", 40)]
    assert [group.cheapest for group in found[1:]] == ["small", "cloud"]


def test_figures() -> None:
    """Quality, its interval, the money and the median time are those of what was answered."""
    scores: dict[str, Sequence[float | None]] = {"small": [None, 1.0, 0.0, 1.0], "cloud": [1.0] * 4}
    costs = {"cloud": Decimal("0.01")}
    [found] = report(scores, costs=costs)
    small, cloud = found.qualities
    assert small.mean == pytest.approx(2 / 3)
    assert small.interval
    assert small.interval.low < 2 / 3 < small.interval.high
    assert (small.answered, small.p50_ms) == (3, 2)
    assert (small.cost, small.price) == (Decimal(0), Decimal(0))
    assert (cloud.cost, cloud.price, cloud.unpriced) == (Decimal("0.04"), Decimal("0.01"), 0)
    assert cloud.against is None


def test_grades() -> None:
    """With a judge in the group, grades are compared as such."""
    [found] = report({"small": [0.5] * 40, "cloud": [0.9] * 40}, judge="polite?")
    assert found.qualities[0].against
    assert found.qualities[0].against.test == "paired bootstrap"
    assert found.cheapest == "cloud"


def test_json() -> None:
    """A group goes into JSON; what nobody knows is null."""
    [found] = report({"small": [None], "cloud": [1.0]}, costs={"cloud": None})
    small, cloud = json.loads(json.dumps(found.as_dict()))["tiers"]
    assert small == {
        "tier": "small",
        "model": "mlx/s",
        "answered": 0,
        "quality": None,
        "interval": None,
        "cost": None,
        "unpriced": 0,
        "p50_ms": None,
        "against": None,
    }
    assert (cloud["quality"], cloud["cost"], cloud["unpriced"]) == (1, None, 1)
