"""The state of a tier's servers, which are asked at the same time, for a second or so each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..wording import span
from . import health, outages
from .outages import OUTAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .endpoint import Endpoint
    from .health import Health, ServedModel, ServerQueue, Trouble
    from .outages import Outage


@dataclass(frozen=True)
class ServerState:
    """What is known of one server.

    `problem` is why it can't answer, or None, and `trouble` its kind if the server can be reached.
    `ms` is the time of the health check, `token_ms` that of a token, if it was asked for one, in
    milliseconds. `models` and `queue` (the requests of all its clients) are None if it does not
    report them. `outage` is why it gets no prompts now.
    """

    address: str
    problem: str | None
    trouble: Trouble | None
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
    problem, trouble = healthy.problem, healthy.trouble
    token_ms, models, queue = None, None, None
    if problem is None:
        models, queue = health.models(endpoint, key), health.queue(endpoint, key)
        if token and health.has_loaded(endpoint, key, model):
            answer = health.answers(endpoint, key, model)
            problem, trouble = _without_token(answer, key), answer.trouble
            token_ms = None if problem else answer.ms
    outage = OUTAGES.find(endpoint.address)
    if outage and not outage.left(outages.now()):
        outage = None
    return ServerState(
        endpoint.address,
        problem,
        trouble,
        healthy.ms,
        token_ms,
        tuple(models) if models is not None else None,
        queue,
        outage,
    )


def _without_token(answer: Health, key: str | None) -> str | None:
    """The problem of a healthy server that wrote no token, or None if it wrote one."""
    if answer.problem is None:
        return None
    if answer.trouble == "key":
        return f"{'refuses the key' if key else 'needs a key'}: {answer.problem}"
    if answer.trouble == "slow":
        why = "it may still be loading its model"
        return f"is there, but has not written a token within {span(health.TOKEN_WITHIN)} ({why})"
    return f"is healthy, but wrote no token: {answer.problem}"
