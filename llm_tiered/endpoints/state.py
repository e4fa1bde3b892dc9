"""The state of a tier's servers, which are asked at the same time, for a second or so each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from . import health, outages
from .outages import OUTAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .endpoint import Endpoint
    from .health import ServedModel, ServerQueue
    from .outages import Outage


@dataclass(frozen=True)
class ServerState:
    """What is known of one server.

    `problem` is why it can't answer, or None. `ms` is the time of the health check, `token_ms` that
    of a token, if it was asked for one, in milliseconds. `models` and `queue` (the requests of all
    its clients) are None if it does not report them. `outage` is why it gets no prompts now.
    """

    address: str
    problem: str | None
    ms: float
    token_ms: float | None
    models: tuple[ServedModel, ...] | None
    queue: ServerQueue | None
    outage: Outage | None


def states_of(
    endpoints: Sequence[Endpoint], key: str | None, model: str, *, token: bool
) -> list[ServerState]:
    """Return the state of each server, in order.

    With `token`, a healthy one is asked for a token: a server that has lost some of its machines
    may still report that it is healthy, but never answers.
    """
    with ThreadPoolExecutor(max_workers=len(endpoints) or 1) as threads:
        return [*threads.map(partial(_state_of, key=key, model=model, token=token), endpoints)]


def _state_of(endpoint: Endpoint, *, key: str | None, model: str, token: bool) -> ServerState:
    healthy = health.health(endpoint, key)
    problem, token_ms, models, queue = healthy.problem, None, None, None
    if problem is None:
        models, queue = health.models(endpoint, key), health.queue(endpoint, key)
        if token and health.has_loaded(endpoint, key, model):
            answer = health.answers(endpoint, key, model)
            problem = answer.problem and f"is healthy, but wrote no token: {answer.problem}"
            token_ms = None if problem else answer.ms
    outage = OUTAGES.find(endpoint.address)
    if outage and not outage.left(outages.now()):
        outage = None
    return ServerState(
        endpoint.address,
        problem,
        healthy.ms,
        token_ms,
        tuple(models) if models is not None else None,
        queue,
        outage,
    )
