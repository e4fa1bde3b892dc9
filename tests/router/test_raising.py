"""Which tier takes over from a model that is stuck, and that it does so once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llm_tiered.config.sections import Config
from llm_tiered.log.record import Attempt, Record
from llm_tiered.router.loops import ToolLoop
from llm_tiered.router.raising import Stuck, stuck_in, tier_above

if TYPE_CHECKING:
    from llm_tiered.config.tiers import Tier

TIERS = Config().tiers
STUCK, GOES_ON = ToolLoop("why", 2), ToolLoop(None, 3, "before")


def record(tier: str, stuck: str | None = None) -> Record:
    """Return the record of an answer of a tier."""
    return Record(tier=tier, stuck=stuck, attempts=(Attempt(tier, "mlx/a", "ok", None, 1),))


@pytest.mark.parametrize(
    ("loop", "records", "expected"),
    [
        (STUCK, [record("small")] * 2, Stuck("why", "small")),
        (STUCK, [], Stuck("why")),
        (ToolLoop(), [], None),
        (GOES_ON, [record("small")] * 3, None),
        (GOES_ON, [], Stuck("before", is_new=False)),
        (
            GOES_ON,
            [record("medium", "why"), record("small")],
            Stuck("why", raised_to="medium", is_new=False),
        ),
        (STUCK, [record("small"), record("small"), record("medium", "why")], Stuck("why", "small")),
    ],
    ids=["stuck", "alone", "no loop", "goes on", "goes on alone", "took over", "earlier message"],
)
def test_stuck(loop: ToolLoop, records: list[Record], expected: Stuck | None) -> None:
    """A tier takes over once between two messages of the user, as far as that is known."""
    assert stuck_in(loop, records) == expected


@pytest.mark.parametrize(
    ("tier", "stuck", "forbidden", "expected"),
    [
        ("small", Stuck(""), (), "medium"),
        ("small", Stuck(""), ("medium",), "cloud"),
        ("small", Stuck("", "medium"), (), "cloud"),
        ("medium", Stuck("", "embedded"), (), "cloud"),
        ("small", Stuck("", raised_to="cloud"), (), "cloud"),
        ("medium", Stuck("", raised_to="medium"), (), None),
        ("cloud", Stuck(""), (), None),
        ("small", Stuck(""), ("medium", "cloud"), None),
    ],
)
def test_tier_above(
    tier: str, stuck: Stuck, forbidden: tuple[str, ...], expected: str | None
) -> None:
    """The next tier above those of the decision and of the last answer takes over, if it may."""
    [decided] = [each for each in TIERS if each.name == tier]

    def permits(other: Tier) -> bool:
        return other.name not in forbidden

    above = tier_above(decided, stuck, TIERS, permits)
    assert (above and above.name) == expected
