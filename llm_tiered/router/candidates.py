"""Decision → candidates: which models may answer, and in what order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..mlx.catalog import EMBEDDED
from .decision import EMBEDDED_TIER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..config.settings import Settings
    from ..config.tiers import Tier
    from .decision import Decision


@dataclass(frozen=True)
class Candidate:
    """A model that may answer on behalf of a tier; `options` are the tier's."""

    tier: str
    model: str
    local: bool
    options: Mapping[str, Any] = field(default_factory=dict)


_EMBEDDED = Candidate(EMBEDDED_TIER, EMBEDDED.model_id, local=True)


def order(decision: Decision, settings: Settings) -> tuple[Candidate, ...]:
    """The models to try for a decision, best first, without repetition.

    What can answer for nothing comes before what costs money: after a local tier come the larger
    local ones, smallest first, then the smaller ones, largest first, and then the cloud, upwards.
    After a cloud tier come the cloud tiers above it and below it, nearest first, and then all
    local ones, largest first. The embedded model is last. `fallback` shortens the list: `local`
    leaves the cloud out, `none` everything but the first.
    """
    first = settings.tier(decision.tier)
    if first is None:
        return (_EMBEDDED,)
    at = settings.tiers.index(first)
    above, below = settings.tiers[at + 1 :], settings.tiers[:at][::-1]
    local = [tier for tier in (*above, *below) if tier.local]
    cloud = [tier for tier in (*above, *below) if not tier.local]
    if first.local:
        rest = local + sorted(cloud, key=settings.tiers.index)
    else:
        rest = cloud + sorted(local, key=settings.tiers.index, reverse=True)
    return _permitted([*map(_candidate, (first, *rest)), _EMBEDDED], decision)


def ladder(decision: Decision, settings: Settings) -> tuple[Candidate, ...]:
    """All models that may answer, smallest first: the way up for a weak answer.

    The decided tier is on it even if `fallback` rules out its kind.
    """
    candidates = [_EMBEDDED, *map(_candidate, settings.tiers)]
    first = order(decision, settings)[0]
    permitted = _permitted([first, *candidates], decision)
    return tuple(candidate for candidate in candidates if candidate in permitted)


def _candidate(tier: Tier) -> Candidate:
    return Candidate(tier.name, tier.model_id, tier.local, tier.options)


def _permitted(candidates: Sequence[Candidate], decision: Decision) -> tuple[Candidate, ...]:
    """The candidates that the request allows, each model once. `fallback` spares the first."""
    first, *others = candidates
    permitted = [first] + [
        candidate
        for candidate in others
        if decision.fallback == "any" or (decision.fallback == "local" and candidate.local)
    ]
    if decision.keep_local:
        permitted = [candidate for candidate in permitted if candidate.local]
    if decision.cloud_only:
        permitted = [candidate for candidate in permitted if not candidate.local]
    permitted = [each for each in permitted if each.tier not in decision.forbidden]
    unique: dict[str, Candidate] = {}
    for candidate in permitted:
        unique.setdefault(candidate.model, candidate)
    return tuple(unique.values())
