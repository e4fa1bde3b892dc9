"""Which rule decides for a request, and which rules restrict it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from ..config.rules import Rule
    from .conditions import RuleFacts


@dataclass(frozen=True)
class Ruling:
    """What the rules say about a request.

    `decides` is the first rule that holds, or None. `restricts` are all those that hold and say
    where the request must not go.
    """

    decides: Rule | None = None
    restricts: tuple[Rule, ...] = ()

    @property
    def stays_here(self) -> Rule | None:
        """The first rule that keeps the request on this machine, or None."""
        return next((rule for rule in self.restricts if rule.place == "here"), None)

    @property
    def keeps(self) -> Rule | None:
        """The first of the strictest rules that keep the request on the user's machines, or None.

        It may keep the request on this machine.
        """
        return self.stays_here or next((rule for rule in self.restricts if rule.place), None)

    @property
    def forbidden(self) -> frozenset[str]:
        """The names of all tiers that the rules keep the request from."""
        return frozenset([tier for rule in self.restricts for tier in rule.forbid])

    def forbids(self, tier: str) -> Rule | None:
        """Return the first rule that keeps the request from a tier, or None."""
        return next((rule for rule in self.restricts if tier in rule.forbid), None)


NO_RULING = Ruling()


def ruling(
    rules: Iterable[Rule], facts: RuleFacts, *, choose: bool = True, earlier: Container[str] = ()
) -> Ruling:
    """Return what the rules say: the first that holds decides, and all restrictions that hold.

    Without `choose` the request itself has decided, and only restrictions count. `earlier` are the
    names of the rules that held earlier in the conversation: what they kept from a tier is sent
    along again, so that their restrictions hold on.
    """
    from .conditions import holds

    decides: Rule | None = None
    restricts: list[Rule] = []
    for rule in rules:
        if (decides or not choose) and not rule.restricts:
            continue
        if holds(rule, facts):
            decides = decides or rule
        elif not rule.restricts or rule.name not in earlier:
            continue
        if rule.restricts:
            restricts.append(rule)
    return Ruling(decides if choose else None, tuple(restricts))
