"""Decision → candidates: which models may answer, and in what order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..mlx.catalog import EMBEDDED, PREFIX
from .decision import EMBEDDED_TIER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..config.price import ConfigPrice
    from ..config.settings import Settings
    from ..config.terms import Place
    from ..config.tiers import Tier
    from ..log.record import Attempt
    from .decision import Decision


@dataclass(frozen=True)
class Candidate:
    """A model that may answer on behalf of a tier; `options` are the tier's.

    `price` is what the config says that it costs, if it does.
    """

    tier: str
    model: str
    place: Place
    options: Mapping[str, Any] = field(default_factory=dict)
    price: ConfigPrice | None = None

    @property
    def in_engine(self) -> bool:
        """Whether it is a local model of our own, rather than one of a server or plugin."""
        return self.model.startswith(PREFIX)


_EMBEDDED = Candidate(EMBEDDED_TIER, EMBEDDED.model_id, "here")


def order(decision: Decision, settings: Settings) -> tuple[Candidate, ...]:
    """The models to try for a decision, best first, without repetition.

    What can answer for nothing comes before what costs money: after a tier on one of the user's
    machines come the larger ones on these, smallest first, then the smaller ones, largest first,
    and then the cloud, upwards. After a cloud tier come the cloud tiers above it and below it,
    nearest first, and then all on the user's machines, largest first. The embedded model is last.
    `fallback` shortens the list: `local` leaves the cloud out, `none` everything but the first.
    """
    first = settings.tier(decision.tier)
    if first is None:
        return (_EMBEDDED,)
    at = settings.tiers.index(first)
    above, below = settings.tiers[at + 1 :], settings.tiers[:at][::-1]
    near = [tier for tier in (*above, *below) if tier.place != "cloud"]
    cloud = [tier for tier in (*above, *below) if tier.place == "cloud"]
    if first.place == "cloud":
        rest = cloud + sorted(near, key=settings.tiers.index, reverse=True)
    else:
        rest = near + sorted(cloud, key=settings.tiers.index)
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
    return Candidate(tier.name, tier.model_id, tier.place, tier.options, tier.answer_price)


def _permitted(candidates: Sequence[Candidate], decision: Decision) -> tuple[Candidate, ...]:
    """The candidates that the request allows, each model once. `fallback` spares the first."""
    first, *others = candidates
    permitted = [first] + [
        candidate
        for candidate in others
        if decision.fallback == "any"
        or (decision.fallback == "local" and candidate.place != "cloud")
    ]
    permitted = [each for each in permitted if each.place in decision.places]
    permitted = [each for each in permitted if each.tier not in decision.forbidden]
    unique: dict[str, Candidate] = {}
    for candidate in permitted:
        unique.setdefault(candidate.model, candidate)
    return tuple(unique.values())


def origin(
    candidates: Iterable[Candidate], attempts: Sequence[Attempt]
) -> tuple[Place | None, ConfigPrice | None]:
    """Where the model of the latest attempt runs, and what the config says that it costs."""
    model = attempts[-1].model if attempts else None
    candidate = next((each for each in candidates if each.model == model), None)
    if candidate is None:
        return None, None
    # The workers of a cluster are machines of the user's.
    place = "own" if candidate.in_engine and _is_on_workers() else candidate.place
    return place, candidate.price


def _is_on_workers() -> bool:
    from ..mlx.process import choice

    engine = choice.elsewhere()
    return engine is not None and not engine.is_here
