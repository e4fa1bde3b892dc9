"""Sums over requests: numbers, tokens, dollars and times."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .requests import Route
    from .sums import Sum
    from .times import Percentiles


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

    def as_dict(self) -> dict[str, Any]:
        """Return what is written as JSON; dollars are text, so that they are not rounded."""
        dollars = None if self.dollars is None else f"{self.dollars.normalize():f}"
        return {"dollars": dollars, "unpriced_requests": self.unpriced}


@dataclass
class Tally:
    """Sums over requests.

    `local` is the number that were answered on this machine, `own` on other machines of the
    user's. `in_cloud` is what their tokens would have cost in the cloud, `saved` the difference
    from what was spent. `uncounted` is the number of requests with unknown tokens. `generated`
    tokens took `generating_ms`, answers from the cache left out. `fallbacks` are the requests by
    why they fell back, in groups all under "". `latency` is the time to the whole answer,
    `first_output` to the first output, both with answers from the cache.
    """

    requests: int = 0
    local: int = 0
    own: int = 0
    cached: int = 0
    uncounted: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    spent: Money = field(default_factory=Money)
    in_cloud: Money = field(default_factory=Money)
    saved: Money = field(default_factory=Money)
    fallbacks: Counter[str] = field(default_factory=Counter)
    latency: Percentiles | None = None
    first_output: Percentiles | None = None
    generated: int = 0
    generating_ms: int = 0

    @property
    def cloud(self) -> int:
        """The number of requests that a model in the cloud answered."""
        return self.requests - self.local - self.own - self.cached

    @property
    def tokens_per_second(self) -> float | None:
        """Output tokens per second, without answers from the cache."""
        return self.generated * 1000 / self.generating_ms if self.generating_ms else None

    def share(self, requests: int) -> float | None:
        """Return a number of requests as a share of all, from 0 to 1; None without any request."""
        return requests / self.requests if self.requests else None

    def add(self, route: Route, total: Sum, *, counted: bool) -> None:
        """Add the requests of a sum, except for money, times and fallbacks.

        `counted` is whether their tokens are known.
        """
        self.requests += total.requests
        if route.cached:
            self.cached += total.requests
        elif route.place == "here":
            self.local += total.requests
        elif route.place == "own":
            self.own += total.requests
        self.input_tokens += total.input_tokens
        self.output_tokens += total.output_tokens
        self.uncounted += 0 if counted else total.requests
        self.generated += total.generated
        self.generating_ms += total.generating_ms

    def as_dict(self) -> dict[str, Any]:
        """Return what is written as JSON. Shares and rates are from 0 to 1, times milliseconds."""
        latency, first_output = self.latency, self.first_output
        return {
            "requests": self.requests,
            "local_requests": self.local,
            "own_requests": self.own,
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
