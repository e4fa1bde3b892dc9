"""Scores → the cheapest tier that is good enough."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.batch.rows import Row
from llm_tiered.config.tiers import Tier
from llm_tiered.evaluation.report import Group, Score, groups
from llm_tiered.evaluation.scoring import Expected
from llm_tiered.evaluation.suite import Case
from llm_tiered.evaluation.tiers import TierAnswer

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
    """The groups of these scores of each tier, row by row; None means no answer."""
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
    by_tier = {
        name: {
            str(number): Score(
                value, None, TierAnswer(MODELS[name], "a", number, 1, 1, 1, costs[name])
            )
            for number, value in enumerate(values)
            if value is not None
        }
        for name, values in scores.items()
    }
    return groups(cases, [tier(name) for name in scores], by_tier)


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
    """The cheapest tier is known to be as good; the cloud only if all others are worse.

    A cloud that gets nothing right is not a useful reference.
    """
    [group] = report({"small": small, "medium": medium, "cloud": cloud})
    assert group.cheapest == expected


@pytest.mark.parametrize(
    ("small", "large", "expected"), [(0, 0, "small"), (3, 2, "large"), (None, 2, "large")]
)
def test_cheapest_is_by_price(small: int | None, large: int, expected: str) -> None:
    """Of several good tiers the lowest price wins, then the lowest tier; unknown prices lose."""
    costs = {"small": None if small is None else Decimal(small), "large": Decimal(large)}
    [group] = report({"small": GOOD, "large": GOOD, "cloud": GOOD}, costs=costs)
    assert group.cheapest == expected


def test_only_common_rows_are_compared() -> None:
    """A comparison uses only the rows that both tiers answered."""
    small: list[float | None] = [None] * 20 + [1.0] * 40
    cloud: list[float | None] = [1.0] * 50 + [None] * 10
    [group] = report({"small": small, "cloud": cloud})
    ours, theirs = group.qualities
    assert ours.against
    assert (ours.answered, theirs.answered, ours.against.rows) == (40, 50, 30)


def test_without_cloud() -> None:
    """Without a cloud tier, the highest tier is the reference."""
    [group] = report({"small": GOOD, "medium": GOOD})
    assert (group.reference, group.cheapest) == ("medium", "small")


def test_one_tier() -> None:
    """A single tier is compared with nothing."""
    [group] = report({"small": GOOD})
    assert (group.reference, group.cheapest) == ("small", None)


def test_tasks() -> None:
    """Each task has a group, after the group of all rows."""
    tasks = ["b"] * 40 + ["a"] * 40 + [None] * 10
    all_groups = report(
        {"small": BAD + GOOD + GOOD[:10], "cloud": GOOD + GOOD + GOOD[:10]}, tasks=tasks
    )
    assert [(group.name, group.cases) for group in all_groups] == [
        (None, 90),
        ("a", 40),
        ("b", 40),
    ]
    assert [group.cheapest for group in all_groups[1:]] == ["small", "cloud"]


def test_figures() -> None:
    """Quality, interval, cost and median time are those of the answered rows."""
    scores: dict[str, Sequence[float | None]] = {"small": [None, 1.0, 0.0, 1.0], "cloud": [1.0] * 4}
    costs = {"cloud": Decimal("0.01")}
    [group] = report(scores, costs=costs)
    small, cloud = group.qualities
    assert small.mean == pytest.approx(2 / 3)
    assert small.interval
    assert small.interval.low < 2 / 3 < small.interval.high
    assert (small.answered, small.p50_ms) == (3, 2)
    assert (small.cost, small.price) == (Decimal(0), Decimal(0))
    assert (cloud.cost, cloud.price, cloud.unpriced) == (Decimal("0.04"), Decimal("0.01"), 0)
    assert cloud.against is None


def test_grades() -> None:
    """With a judge in the group, grades are compared by bootstrap."""
    [group] = report({"small": [0.5] * 40, "cloud": [0.9] * 40}, judge="polite?")
    assert group.qualities[0].against
    assert group.qualities[0].against.test == "paired bootstrap"
    assert group.cheapest == "cloud"


def test_json() -> None:
    """A group can be written as JSON; unknown figures are null."""
    [group] = report({"small": [None], "cloud": [1.0]}, costs={"cloud": None})
    small, cloud = json.loads(json.dumps(group.as_dict()))["tiers"]
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
