"""A model that is stuck in a tool loop → the tier that takes over. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..config.tiers import Tier
    from ..log.record import Record
    from .loops import ToolLoop


class Stuck(NamedTuple):
    """How a model is stuck in a tool loop.

    `answered_by` is the tier that gave the last answer, if that is known. `raised_to` is the tier
    that has already taken over; `is_new` is whether none has.
    """

    reason: str
    answered_by: str | None = None
    raised_to: str | None = None
    is_new: bool = True


def stuck_in(loop: ToolLoop, records: Sequence[Record]) -> Stuck | None:
    """Return how the model is stuck, so that another tier takes over, or goes on; None if not.

    `records` are those of the conversation's turns, latest first. A tier takes over only once
    between two messages of the user. Where there are no records, of an earlier answer that was
    stuck it is assumed that another tier has taken over since.
    """
    raised = next((record for record in records[: loop.answers] if record.stuck), None)
    if raised:
        return Stuck(raised.stuck or "", raised_to=raised.tier, is_new=False)
    if loop.stuck_before and not records:
        return Stuck(loop.stuck_before, is_new=False)
    answered_by = records[0].answered_by if records else None
    return Stuck(loop.stuck, answered_by) if loop.stuck else None


def tier_above(
    tier: Tier, stuck: Stuck, tiers: Sequence[Tier], permits: Callable[[Tier], bool]
) -> Tier | None:
    """Return the next tier above this one, and above the one that is stuck, that may be asked."""
    names = [other.name for other in tiers]
    places = [names.index(name) for name in (tier.name, stuck.answered_by) if name in names]
    above = [other for other in tiers[max(places, default=-1) + 1 :] if permits(other)]
    if stuck.raised_to:
        above = [other for other in above if other.name == stuck.raised_to]
    return above[0] if above else None
