"""The connection to a Dask cluster, or to one that is started on this machine."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ..config.local_models import local_models
from ..errors import RequestError
from ..wording import counted, span
from .engine import ClusterEngine
from .roster import Roster
from .worker import RESOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Requests at the same time on each worker that is started here.
LOCAL_ROWS = 16

# Seconds until the scheduler must have answered, and until a worker must have come.
ANSWERS_WITHIN = 10.0
WORKER_WITHIN = 30.0


@contextmanager
def connected(
    address: str, when_lost: Callable[[], object], tell: Callable[[str], object]
) -> Iterator[ClusterEngine]:
    """Yield the engine of the cluster at an address, or of `local:N`, N workers on this machine.

    `when_lost` is called on another thread if the scheduler is gone, `tell` gets lines about the
    workers. Raises RequestError if Dask is not installed, nothing answers or there is no worker.
    """
    local = re.fullmatch(r"local:([1-9]\d*)", address)
    if not local and not re.fullmatch(r"(tcp|tls|ws|wss)://\S+:\d+", address):
        raise RequestError(f"found {address!r}, expected tcp://HOST:PORT or local:2")
    try:
        import distributed
    except ImportError:
        raise RequestError("--dask needs Dask", fix="llm install 'dask[distributed]'") from None
    _silence()
    with ExitStack() as stack:
        if local:
            cluster = distributed.LocalCluster(  # type: ignore[no-untyped-call]  # it has none
                n_workers=int(local[1]),
                threads_per_worker=1,
                resources={RESOURCE: LOCAL_ROWS},
                # Models are larger than what Dask would allow.
                memory_limit=0,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )
            address = stack.enter_context(cluster).scheduler_address
        _probe(address)
        client: Any = stack.enter_context(
            distributed.Client(  # type: ignore[no-untyped-call]  # it has no types
                address, timeout=ANSWERS_WITHIN, set_as_default=False
            )
        )
        roster = Roster(client, importlib.metadata.version("llm-tiered"), tell)
        _wait_for_workers(client, roster, address, tell)
        engine = ClusterEngine(client, roster, local_models(), tell, is_here=bool(local))
        stack.callback(engine.close)
        engine.refresh()
        stack.enter_context(roster.watching(engine.refresh, when_lost))
        tell(f"{counted(len(roster.rows), 'worker')}, {counted(roster.capacity, 'row')} at a time")
        yield engine


def _probe(address: str) -> None:
    """Raise RequestError if no scheduler answers: a client would try again and again."""
    from distributed import rpc

    async def ask() -> None:
        async with rpc(  # type: ignore[no-untyped-call]  # it has no types
            address, timeout=ANSWERS_WITHIN
        ) as scheduler:
            await asyncio.wait_for(scheduler.identity(), ANSWERS_WITHIN)

    try:
        asyncio.run(ask())
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        raise RequestError(
            f"no Dask scheduler answers at {address}", fix="dask scheduler, or local:2 for a try"
        ) from error


def _wait_for_workers(
    client: Any, roster: Roster, address: str, tell: Callable[[str], object]
) -> None:
    if not client.scheduler_info(n_workers=-1)["workers"]:
        tell(f"no worker at {address} yet; waiting {span(WORKER_WITHIN)} for one")
    try:
        client.wait_for_workers(1, timeout=WORKER_WITHIN)
    except asyncio.TimeoutError:  # another class before Python 3.11
        raise RequestError(
            f"the Dask scheduler at {address} has no workers", fix=f"dask worker {address}"
        ) from None
    roster.refresh()
    if not roster.rows and roster.silent:
        raise RequestError(f"no worker at {address} answers", fix="start the workers again")
    if not roster.rows:
        raise RequestError(
            f"no worker at {address} has this version of llm-tiered",
            fix="install the same version on all of them",
        )


def _silence() -> None:
    """Turn Dask's log off: what goes wrong on the workers comes back with the requests."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)
