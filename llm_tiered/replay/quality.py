"""How good the answers to some requests were, and would be, as far as that is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ..evaluation.significance import compare, wilson

if TYPE_CHECKING:
    from ..evaluation.significance import Difference, Interval
    from .evidence import AnswerEvidence


@dataclass
class KnownQuality:
    """The scores of answers, from 0 to 1, each answer once."""

    scores: list[float] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    _answers: set[str] = field(default_factory=set)

    def add(self, evidence: AnswerEvidence) -> bool:
        """Add what is known of an answer; return whether it is a new one."""
        if evidence.answer in self._answers:
            return False
        self._answers.add(evidence.answer)
        self.scores.append(evidence.score)
        self.kinds[evidence.kind] += 1
        return True

    @property
    def mean(self) -> float | None:
        """The mean score, or None if nothing is known."""
        return fmean(self.scores) if self.scores else None

    @property
    def interval(self) -> Interval | None:
        """The 95% confidence interval of the mean."""
        return wilson(fmean(self.scores), len(self.scores)) if self.scores else None

    def as_dict(self) -> dict[str, Any]:
        """Return what is written as JSON."""
        return {
            "known": len(self.scores),
            "kinds": dict(sorted(self.kinds.items())),
            "mean": self.mean,
            "interval": self.interval and vars(self.interval),
        }


@dataclass
class MovedQuality:
    """What is known of the answers in the log, and of those of the models that would be asked.

    `pairs` are the requests of which both are known, though not only because one answer was weak:
    those would favour the other model. `answered` is the number of requests that the
    other model has answered before.
    """

    before: KnownQuality = field(default_factory=KnownQuality)
    after: KnownQuality = field(default_factory=KnownQuality)
    pairs: list[tuple[float, float]] = field(default_factory=list)
    answered: int = 0

    def add(
        self, before: AnswerEvidence | None, after: AnswerEvidence | None, *, answered: bool
    ) -> None:
        """Add a request."""
        new = [bool(before and self.before.add(before)), bool(after and self.after.add(after))]
        if before and after and all(new) and not (before.selected or after.selected):
            self.pairs.append((after.score, before.score))
        self.answered += answered

    @property
    def difference(self) -> Difference | None:
        """How much better the other models are where both are known, or None."""
        if not self.pairs:
            return None
        graded = any(score not in (0, 1) for pair in self.pairs for score in pair)
        after, before = zip(*self.pairs, strict=True)
        return compare(after, before, graded=graded)

    def as_dict(self) -> dict[str, Any]:
        """Return what is written as JSON."""
        difference = self.difference
        return {
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "answered_before": self.answered,
            "difference": difference and asdict(difference),
        }
