"""Sums over requests: numbers, tokens, dollars and times."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import quantiles
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .requests import Requests, Route


@dataclass
class Money:
    """A sum of dollars, and the numbers of requests with a known and an unknown price."""

    known: Decimal = Decimal(0)
    priced: int = 0
    unpriced: int = 0

    @property
    def dollars(self) -> Decimal | None:
        """The sum, or None if no price is known."""
        return self.known if self.priced or not self.unpriced else None

    def add(self, amount: Decimal | None, requests: int) -> None:
        """Add the dollars for a number of requests; None is an unknown price."""
        if amount is None:
            self.unpriced += requests
        else:
            self.known += amount
            self.priced += requests

    def merge(self, other: Money) -> None:
        """Add the other sum."""
        self.known += other.known
        self.priced += other.priced
        self.unpriced += other.unpriced

    def as_dict(self) -> dict[str, Any]:
        """Return what is written as JSON; dollars are text, so that they are not rounded."""
        dollars = None if self.dollars is None else f"{self.dollars.normalize():f}"
        return {"dollars": dollars, "unpriced_requests": self.unpriced}


@dataclass(frozen=True)
class Percentiles:
    """The 50th and the 95th percentile, in milliseconds."""

    p50: float
    p95: float

    @classmethod
    def of(cls, values: list[int]) -> Percentiles | None:
        """Return the percentiles, interpolated between neighbouring values; None without values."""
        if len(values) < 2:
            return cls(values[0], values[0]) if values else None
        cuts = quantiles(values, n=20, method="inclusive")
        return cls(cuts[9], cuts[18])


@dataclass
class Tally:
    """Sums over requests.

    `in_cloud` is what their tokens would have cost in the cloud, `saved` the difference from
    what was spent. `uncounted` is the number of requests with unknown tokens. `generated` tokens
    took `generating_ms`, answers from the cache left out.
    """

    requests: int = 0
    local: int = 0
    cached: int = 0
    uncounted: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    spent: Money = field(default_factory=Money)
    in_cloud: Money = field(default_factory=Money)
    saved: Money = field(default_factory=Money)
    fallbacks: Counter[str] = field(default_factory=Counter)
    durations: list[int] = field(default_factory=list)
    first_outputs: list[int] = field(default_factory=list)
    generated: int = 0
    generating_ms: int = 0

    @property
    def cloud(self) -> int:
        """The number of requests that a model elsewhere answered."""
        return self.requests - self.local - self.cached

    @property
    def tokens_per_second(self) -> float | None:
        """Output tokens per second, without answers from the cache."""
        return self.generated * 1000 / self.generating_ms if self.generating_ms else None

    @property
    def latency(self) -> Percentiles | None:
        """The times to the whole answer, including answers from the cache."""
        return Percentiles.of(self.durations)

    @property
    def first_output(self) -> Percentiles | None:
        """The times to the first output."""
        return Percentiles.of(self.first_outputs)

    def share(self, requests: int) -> float | None:
        """Return a number of requests as a share of all, from 0 to 1; None without any request."""
        return requests / self.requests if self.requests else None

    def add(self, route: Route, requests: Requests) -> None:
        """Add requests, except for the money."""
        self.requests += len(requests)
        if route.cached:
            self.cached += len(requests)
        elif route.local:
            self.local += len(requests)
        if route.fallback:
            self.fallbacks[route.fallback] += len(requests)
        inputs, outputs = requests.input_tokens, requests.output_tokens
        self.input_tokens += sum(filter(None, inputs))
        self.output_tokens += sum(filter(None, outputs))
        self.uncounted += sum(None in pair for pair in zip(inputs, outputs, strict=True))
        self.durations += [ms for ms in requests.durations if ms is not None]
        self.first_outputs += [ms for ms in requests.first_outputs if ms is not None]
        if not route.cached:
            for tokens, ms in zip(outputs, requests.durations, strict=True):
                if tokens and ms:
                    self.generated += tokens
                    self.generating_ms += ms

    def merge(self, other: Tally) -> None:
        """Add the other sums."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(mine, Money):
                mine.merge(value)
            elif isinstance(mine, Counter):
                mine.update(value)
            else:
                mine += value
                setattr(self, name, mine)

    def as_dict(self) -> dict[str, Any]:
        """Return what is written as JSON. Shares and rates are from 0 to 1, times milliseconds."""
        latency, first_output = self.latency, self.first_output
        return {
            "requests": self.requests,
            "local_requests": self.local,
            "cloud_requests": self.cloud,
            "cached_requests": self.cached,
            "local_share": self.share(self.local),
            "cache_hit_rate": self.share(self.cached),
            "fallback_rate": self.share(self.fallbacks.total()),
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "uncounted_requests": self.uncounted,
            "spent": self.spent.as_dict(),
            "cloud_cost": self.in_cloud.as_dict(),
            "saved": self.saved.as_dict(),
            "latency_ms": vars(latency) if latency else None,
            "first_token_ms": vars(first_output) if first_output else None,
            "tokens_per_second": self.tokens_per_second,
        }
