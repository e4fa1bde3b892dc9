"""The servers of a tier: which of them gets a request.

A conversation stays with the server that has read it; others go to the least busy one. A server
that failed is left alone for a while, and comes back once it is shown to be there again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import threading
from collections import OrderedDict, defaultdict
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import BusyServer, NotRunning
from ..forks import after_fork
from ..wording import span
from . import health, outages
from .endpoint import Endpoint
from .faults import fault_of
from .fifo import FifoSemaphore
from .outages import FIRST_PAUSE, OUTAGES, outage_after

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence

    from ..config.tiers import Tier
    from .faults import Fault
    from .outages import Outage, Proof

    # Checks in the way of the proof whether a server is back: the problem, or None.
    IsBack: TypeAlias = Callable[[Endpoint, Proof], str | None]

logger = logging.getLogger("llm_tiered")

# Requests at a time to each server of a tier without `concurrency` in the config.
DEFAULT_CONCURRENCY = 8

# Conversations whose server is remembered.
REMEMBERED = 10_000

# A conversation leaves its server once that has more than this many requests beyond the least busy
# one: waiting there would take longer than another server needs to read it again.
STAYS_UP_TO = 8

# Passing failures in a row after which a server is left alone; before that, others are preferred.
PASSING_FAILURES = 3

# Seconds for which a server is asked last for a model that it did not have.
_LACKS_MODEL = 60.0

# Seconds for which other requests leave a server alone while one checks whether it is back.
_CLAIM = 5.0

# Name of the threads that check servers while requests go ahead.
CHECKS = "llm-tiered server check"


@dataclass
class _Load:
    """This process's requests to one server, for all tiers."""

    running: int = 0
    failures: int = 0
    failed_at: float = 0.0

    @property
    def is_shaky(self) -> bool:
        """Whether a request has failed within the last seconds."""
        return self.failures > 0 and monotonic() - self.failed_at < FIRST_PAUSE


# By address, since two tiers may have the same server.
_LOADS: defaultdict[str, _Load] = defaultdict(_Load)
_LOCK = threading.Lock()


def _after_fork() -> None:
    # The requests that ran are the parent's, and nobody here would ever end them.
    global _LOADS, _LOCK, _pools
    _LOADS, _LOCK, _pools = defaultdict(_Load), threading.Lock(), {}


after_fork(_after_fork)


def running(endpoint: Endpoint) -> int:
    """Return how many requests of this process a server has now."""
    with _LOCK:
        return _LOADS[endpoint.address].running if endpoint.address in _LOADS else 0


class Pool:
    """The servers of one tier.

    At most `concurrency` requests run at the same time; others wait in line. `is_back` checks
    whether a server that was left alone is available again, which may take some seconds.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], is_back: IsBack, *, concurrency: int | None = None
    ) -> None:
        self.endpoints = tuple(dict.fromkeys(endpoints))
        self._is_back = is_back
        self._room = FifoSemaphore(concurrency)
        self._readers: OrderedDict[str, Endpoint] = OrderedDict()
        # When each server said that it does not have the tier's model.
        self._lacked_at: dict[Endpoint, float] = {}

    def left_alone(self) -> NotRunning | BusyServer | None:
        """Return the error if all servers are left alone now, or None; none of them is asked."""
        now, down = outages.now(), []
        for endpoint in self.endpoints:
            outage = OUTAGES.find(endpoint.address)
            if outage is None or not outage.left(now):
                return None
            down.append((endpoint, outage))
        return _unavailable(down)

    @contextmanager
    def lease(self, prefix: str, *, without: Collection[Endpoint] = ()) -> Iterator[Endpoint]:
        """Wait for a turn, and give the best server for the block.

        An error that the block raises counts as the server's answer. `prefix` identifies what a
        server may have read before. The servers in `without` have failed for this request already.
        Raises NotRunning or BusyServer if no other is left.
        """
        with self._room.hold():
            if due := self._due(without):
                self._check(due)
            with self._use(prefix, without) as endpoint:
                yield endpoint

    @asynccontextmanager
    async def lease_async(
        self, prefix: str, *, without: Collection[Endpoint] = ()
    ) -> AsyncIterator[Endpoint]:
        """Async counterpart of `lease`."""
        async with self._room.hold_async():
            if due := self._due(without):
                await asyncio.to_thread(self._check, due)
            with self._use(prefix, without) as endpoint:
                yield endpoint

    def _due(self, without: Collection[Endpoint]) -> list[tuple[Endpoint, Outage]]:
        """The servers that the request has to wait for: those that may be back, if no other is up.

        If one is, those that may be back are checked in a thread, while the request goes ahead.
        """
        now, due, is_any_up = outages.now(), [], False
        for endpoint in self.endpoints:
            outage = OUTAGES.find(endpoint.address)
            if outage is None or outage.is_over(now):
                is_any_up = is_any_up or endpoint not in without
            elif not outage.left(now):
                OUTAGES.note(endpoint.address, replace(outage, until=now + _CLAIM))
                due.append((endpoint, outage))
        if due and is_any_up:
            threading.Thread(target=self._check, args=(due,), name=CHECKS, daemon=True).start()
            return []
        return due

    def _check(self, due: Sequence[tuple[Endpoint, Outage]]) -> None:
        """Check all at once whether servers are back, and end the outages of those that are."""
        others = [threading.Thread(target=self._check_one, args=each) for each in due[1:]]
        for thread in others:
            thread.start()
        self._check_one(*due[0])
        for thread in others:
            thread.join()

    def _check_one(self, endpoint: Endpoint, outage: Outage) -> None:
        problem = self._is_back(endpoint, outage.proof)
        if problem is None:
            with _LOCK:
                _LOADS[endpoint.address].failures = 0
            OUTAGES.end(endpoint.address)
        else:
            OUTAGES.note(endpoint.address, outage_after(problem, outage, outages.now()))

    @contextmanager
    def _use(self, prefix: str, without: Collection[Endpoint]) -> Iterator[Endpoint]:
        with _LOCK:
            endpoint = self._choose(prefix, without)
            load = _LOADS[endpoint.address]
            load.running += 1
        began = monotonic()
        try:
            yield endpoint
        except Exception as error:
            if fault := fault_of(error):
                with _LOCK:
                    self._fail(prefix, endpoint, load, fault, began)
            raise
        else:
            with _LOCK:
                self._succeed(prefix, endpoint, load)
        finally:
            with _LOCK:
                load.running -= 1

    def _choose(self, prefix: str, without: Collection[Endpoint]) -> Endpoint:
        now, up, down = outages.now(), [], []
        for endpoint in self.endpoints:
            outage = OUTAGES.find(endpoint.address)
            if outage and not outage.is_over(now):
                down.append((endpoint, outage))
            elif endpoint not in without:
                up.append(endpoint)
        if not up:
            raise _unavailable(down)
        up = [each for each in up if not self._lacks_model(each)] or up
        loads = {each: _LOADS[each.address] for each in up}
        sound = {each: load.running for each, load in loads.items() if not load.is_shaky}
        sound = sound or {each: load.running for each, load in loads.items()}
        least = min(sound.values())
        reader = self._readers.get(prefix)
        if reader and sound.get(reader, math.inf) <= least + STAYS_UP_TO:
            return reader
        idle = [endpoint for endpoint, running in sound.items() if running == least]
        # The same for all processes, so that `llm -c` finds the server that has read the rest.
        return max(idle, key=lambda each: _rank(prefix, each))

    def _lacks_model(self, endpoint: Endpoint) -> bool:
        return monotonic() - self._lacked_at.get(endpoint, -math.inf) < _LACKS_MODEL

    def _succeed(self, prefix: str, endpoint: Endpoint, load: _Load) -> None:
        load.failures = 0
        outage = OUTAGES.find(endpoint.address)
        if outage and (outage.proof != "time" or outage.is_over(outages.now())):
            OUTAGES.end(endpoint.address)
        self._readers[prefix] = endpoint
        self._readers.move_to_end(prefix)
        if len(self._readers) > REMEMBERED:
            self._readers.popitem(last=False)

    def _fail(
        self, prefix: str, endpoint: Endpoint, load: _Load, fault: Fault, began: float
    ) -> None:
        if self._readers.get(prefix) == endpoint:
            del self._readers[prefix]
        if fault.kind == "model":
            # A name that is wrong in the config says nothing about the server.
            self._lacked_at[endpoint] = monotonic()
            return
        # Requests that ran at the same time fail together, which is one failure and not many.
        if began >= load.failed_at:
            load.failures += 1
            load.failed_at = monotonic()
        if fault.kind == "passing" and load.failures < PASSING_FAILURES:
            return
        now, earlier = outages.now(), OUTAGES.find(endpoint.address)
        wait = fault.retry_after if fault.kind == "busy" else None
        if earlier and earlier.left(now) > (wait or 0.0):
            return
        proof: Proof = "answer" if fault.kind == "silent" else "health"
        outage = outage_after(fault.reason, earlier, now, proof=proof, wait=wait)
        OUTAGES.note(endpoint.address, outage)
        if len(self.endpoints) > 1:
            # For a single server, the warning about the fallback says it.
            left = span(outage.left(now))
            logger.warning("%s (left alone for %s)", _with_address(endpoint, outage), left)


def _rank(prefix: str, endpoint: Endpoint) -> bytes:
    """The rank of a server for a prefix (rendezvous hashing); the highest is preferred."""
    return hashlib.sha256(f"{prefix} {endpoint.address}".encode()).digest()


def _unavailable(down: Sequence[tuple[Endpoint, Outage]]) -> NotRunning | BusyServer:
    """The error if no server is left, with the reasons and when the first is asked again."""
    if not down:
        return NotRunning("no other server of the tier is left")
    now = outages.now()
    reasons = [_with_address(endpoint, outage) for endpoint, outage in down]
    left = min(outage.left(now) for _, outage in down)
    message = f"left alone for {span(left)} more after: {'; '.join(reasons)}"
    busy = [outage.left(now) for _, outage in down if outage.proof == "time"]
    return BusyServer(message, retry_after=min(busy)) if busy else NotRunning(message)


def _with_address(endpoint: Endpoint, outage: Outage) -> str:
    """The reason of an outage, with the server's address."""
    reason = outage.reason
    return reason if endpoint.address in reason else f"{endpoint.address}: {reason}"


_pools: dict[tuple[Any, ...], Pool] = {}


def pool_of(tier: Tier) -> Pool:
    """Return the servers of a tier, the same for all its requests in this process."""
    key = (tier.model_id, tier.server, tier.place, tier.key, tier.concurrency)
    pool = _pools.get(key)
    if pool is None:
        here, own = tier.place == "here", tier.place == "own"
        endpoints = [Endpoint(address, here, own) for address in tier.server or ()]
        is_back = partial(health.is_back, key_name=tier.key, model=tier.model)
        pool = _pools.setdefault(key, Pool(endpoints, is_back, concurrency=tier.concurrency))
    return pool


def concurrency_of(tier: Tier) -> int:
    """Return how many requests a program should make to the servers of a tier at a time."""
    return tier.concurrency or DEFAULT_CONCURRENCY * len(tier.server or ())
