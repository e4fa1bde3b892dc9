"""What the server counts, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from .asking import ChatRequest

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Seconds: from the first token of a small model to an answer that thinks for minutes.
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters of one server, without any text of a request."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.running = Gauge("llm_tiered_running", "Requests that are being answered", registry=own)
        self._requests = Counter(
            "llm_tiered_requests", "Requests by status", ["status"], registry=own
        )
        self._answers = Counter("llm_tiered_answers", "Answers", ["tier", "model"], registry=own)
        self._fallbacks = Counter(
            "llm_tiered_fallbacks", "Answers that another tier gave", registry=own
        )
        self._tokens = Counter("llm_tiered_tokens", "Tokens", ["model", "kind"], registry=own)
        self._first = Histogram(
            "llm_tiered_first_output_seconds",
            "Time to the first output",
            buckets=_BUCKETS,
            registry=own,
        )
        self._whole = Histogram(
            "llm_tiered_answer_seconds",
            "Time to the end of the answer",
            buckets=_BUCKETS,
            registry=own,
        )

    def count_request(self, status: int | str) -> None:
        """Count a request that has ended."""
        self._requests.labels(str(status)).inc()

    def count_first_output(self, seconds: float) -> None:
        """Count the first output of an answer."""
        self._first.observe(seconds)

    def count_answer(self, request: ChatRequest, seconds: float) -> None:
        """Count a whole answer."""
        model = request.model
        self._answers.labels(request.tier or "", model).inc()
        if len(request.attempts) > 1:
            self._fallbacks.inc()
        self._tokens.labels(model, "input").inc(request.response.input_tokens or 0)
        self._tokens.labels(model, "output").inc(request.response.output_tokens or 0)
        self._whole.observe(seconds)

    def text(self) -> bytes:
        """Return all of them in Prometheus' format."""
        return generate_latest(self._registry)
