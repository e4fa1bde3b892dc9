"""Replayed requests → how many go elsewhere, what that costs, and what is known of the quality."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING, Any, NamedTuple

from .money import Costs, cost_before, cost_with, has_tokens, interval_of
from .quality import MovedQuality

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..config.settings import Settings
    from ..costs.periods import Period
    from .again import Replayed
    from .evidence import Known

# Examples of each move that are kept.
EXAMPLES = 10


class MoveKey(NamedTuple):
    """From which tier to which; the models only if the tier stays."""

    before: str
    after: str
    model_before: str | None = None
    model_after: str | None = None

    def __str__(self) -> str:
        if self.before != self.after:
            return f"{self.before} → {self.after}"
        return f"{self.before}: {self.model_before} → {self.model_after}"


@dataclass
class Move:
    """The requests that move from one tier or model to another.

    `moves_now` of them would with the present settings, too. `examples` are drawn at random, the
    same each time.
    """

    requests: int = 0
    moves_now: int = 0
    before: Costs = field(default_factory=Costs)
    after: Costs = field(default_factory=Costs)
    quality: MovedQuality = field(default_factory=MovedQuality)
    _drawn: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)

    def add_example(self, example: dict[str, Any]) -> None:
        """Keep an example, if it is drawn."""
        digest = hashlib.blake2b(example["id"].encode(), digest_size=8).digest()
        entry = (-int.from_bytes(digest, "big"), example["id"], example)
        if len(self._drawn) < EXAMPLES:
            heappush(self._drawn, entry)
        else:
            heappushpop(self._drawn, entry)

    @property
    def examples(self) -> list[dict[str, Any]]:
        """The examples, in the order in which they were drawn."""
        return [example for _, _, example in sorted(self._drawn, key=lambda entry: -entry[0])]


@dataclass
class TierShare:
    """The requests of a tier, and what they cost."""

    requests: int = 0
    costs: Costs = field(default_factory=Costs)


class ReplayReport:
    """The sums over replayed requests.

    `known` is what is known of the quality of answers, `model_id` returns the id of a model by its
    name in a config. `compared` is whether the present settings were replayed beside the others.
    """

    def __init__(
        self,
        settings: Settings,
        known: Known,
        model_id: Callable[[str], str],
        *,
        period: Period,
        compared: bool,
    ) -> None:
        self.settings = settings
        self.period = period
        self.compared = compared
        self.requests = 0
        self.first: str | None = None
        self.last: str | None = None
        self.before: defaultdict[str, TierShare] = defaultdict(TierShare)
        self.after: defaultdict[str, TierShare] = defaultdict(TierShare)
        self.moves: defaultdict[MoveKey, Move] = defaultdict(Move)
        self.quality = MovedQuality()
        self.left_out: Counter[str] = Counter()
        self._known = known
        self._model_id = model_id

    @property
    def moved(self) -> int:
        """The number of requests that go elsewhere."""
        return sum(move.requests for move in self.moves.values())

    @property
    def moved_now(self) -> int:
        """The number of those that would with the present settings, too."""
        return sum(move.moves_now for move in self.moves.values())

    def add(self, replayed: Replayed) -> dict[str, Any] | None:
        """Add a request, and return it if it goes elsewhere."""
        decision, record = replayed.decision, replayed.record
        if decision is None or record.tier is None:
            self.left_out[replayed.why_not or ""] += 1
            return None
        when = replayed.request.turn.when
        self.requests += 1
        self.first = min(self.first or when, when)
        self.last = max(self.last or when, when)
        counted = has_tokens(replayed)
        spent = then = cost_before(replayed)
        model = self._model_id(decision.model)
        example = None
        if replayed.moves:
            then = cost_with(replayed, model, self.settings.tier(decision.tier))
            example = _example(replayed)
            key = self._key(replayed, model)
            move = self.moves[key]
            move.requests += 1
            move.moves_now += self.compared and replayed.moves_now
            move.before.add(spent, counted=counted)
            move.after.add(then, counted=counted)
            move.add_example(example)
            self._add_quality(move, replayed, model)
        for shares, tier, dollars in (
            (self.before, record.tier, spent),
            (self.after, decision.tier, then),
        ):
            shares[tier].requests += 1
            shares[tier].costs.add(dollars, counted=counted)
        return example

    def leave_out(self, why: str, requests: int) -> None:
        """Count requests that can't be replayed."""
        if requests:
            self.left_out[why] += requests

    def _add_quality(self, move: Move, replayed: Replayed, model: str) -> None:
        was = replayed.model or replayed.request.turn.resolved_model
        before = self._known.of_model(replayed, was, self._model_id) if was else None
        after = self._known.of_model(replayed, model, self._model_id)
        answered = self._known.has_answer(replayed, model)
        for quality in (move.quality, self.quality):
            quality.add(before, after, answered=answered)

    def _key(self, replayed: Replayed, model: str) -> MoveKey:
        before, after = replayed.record.tier or "", replayed.decision.tier  # type: ignore[union-attr]  # it moves
        if before != after:
            return MoveKey(before, after)
        return MoveKey(before, after, replayed.model, model)

    @property
    def tiers(self) -> list[str]:
        """The tiers of the settings in their order, then those that only the log has."""
        names = [tier.name for tier in self.settings.tiers]
        return [*names, *sorted({*self.before, *self.after} - {*names})]

    @property
    def in_order(self) -> list[tuple[MoveKey, Move]]:
        """The moves, most requests first."""
        return sorted(self.moves.items(), key=lambda item: (-item[1].requests, item[0][:2]))

    def as_dict(self) -> dict[str, Any]:
        """Return what is written as JSON; shares are from 0 to 1."""
        period = {name: time and time.isoformat() for name, time in self.period._asdict().items()}
        return {
            "period": period | {"first": self.first, "last": self.last},
            "requests": self.requests,
            "moved": self.moved,
            "moved_share": _share(self.moved, self.requests),
            "moved_with_present_settings": self.moved_now if self.compared else None,
            "cost": {
                "before": total(share.costs for share in self.before.values()),
                "after": total(share.costs for share in self.after.values()),
            },
            "tiers": [self._tier(name) for name in self.tiers],
            "quality": self.quality.as_dict(),
            "moves": [self._move(key, move) for key, move in self.in_order],
            "not_replayed": [
                {"reason": reason, "requests": requests}
                for reason, requests in sorted(
                    self.left_out.items(), key=lambda item: (-item[1], item[0])
                )
            ],
        }

    def _tier(self, name: str) -> dict[str, Any]:
        tier = self.settings.tier(name)
        before, after = (
            {
                "requests": shares[name].requests if name in shares else 0,
                "share": _share(shares[name].requests if name in shares else 0, self.requests),
                "cost": (shares[name].costs if name in shares else Costs()).as_dict(),
            }
            for shares in (self.before, self.after)
        )
        return {
            "tier": name,
            "complexity": str(tier.complexity) if tier else None,
            "model": self._model_id(tier.model_id) if tier else None,
            "before": before,
            "after": after,
        }

    def _move(self, key: MoveKey, move: Move) -> dict[str, Any]:
        return {
            "from": key.before,
            "to": key.after,
            "from_model": key.model_before,
            "to_model": key.model_after,
            "requests": move.requests,
            "moved_with_present_settings": move.moves_now if self.compared else None,
            "cost": {"before": move.before.as_dict(), "after": move.after.as_dict()},
            "quality": move.quality.as_dict(),
            "examples": move.examples,
        }


def total(groups: Iterable[Costs]) -> dict[str, Any]:
    """Return the sum over several groups, as JSON."""
    groups = list(groups)
    whole = Costs()
    for group in groups:
        whole.dollars += group.dollars
        whole.known += group.known
        whole.uncounted += group.uncounted
        whole.unpriced += group.unpriced
    interval = interval_of(groups)
    return whole.as_dict() | {"interval": interval and {"low": interval[0], "high": interval[1]}}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _example(replayed: Replayed) -> dict[str, Any]:
    record, decision = replayed.record, replayed.decision
    assert decision is not None  # noqa: S101 - it moves
    return {
        "id": replayed.request.turn.id,
        "when": replayed.request.turn.when,
        "from": record.tier,
        "to": decision.tier,
        "model": decision.model,
        "complexity_before": record.complexity,
        "complexity": decision.complexity,
        "source_before": record.source,
        "source": decision.source,
        "reason": decision.reason,
    }
