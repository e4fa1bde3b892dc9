"""The workers of a Dask cluster: which of them can be used, and for how much at a time."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .worker import RESOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Seconds between two looks at the cluster, and in which a worker says its version.
INTERVAL = 2.0
ANSWERS_WITHIN = 5.0


class Roster:
    """The workers that have this version of the package.

    `tell` gets a line for each worker that is left out, and when there is none any more.
    `rows` is how many requests each of them answers at the same time, by address: their resource
    says so, or else it is the number of their threads.
    """

    def __init__(self, client: Any, version: str, tell: Callable[[str], object]) -> None:
        self._client = client
        self.version = version
        self._tell = tell
        # Whether each worker has this version.
        self._checked: dict[str, bool] = {}
        self.rows: dict[str, int] = {}
        # The workers that have been asked, and have not answered.
        self.silent: set[str] = set()

    @property
    def capacity(self) -> int:
        """The number of requests that are answered at the same time."""
        return sum(self.rows.values())

    def refresh(self) -> None:
        """Look at the cluster. Raises an error of Dask's if the scheduler does not answer."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        for gone in self._checked.keys() - workers.keys():
            del self._checked[gone]
        self._check(workers.keys() - self._checked.keys())
        usable = {name: info for name, info in workers.items() if self._checked.get(name)}
        declared = {
            name: int(rows) for name, info in usable.items() if (rows := _resource(info)) > 0
        }
        if self.rows and not usable:
            self._tell("no worker is left; waiting for one")
        self.rows = declared or {name: info["nthreads"] for name, info in usable.items()}

    def _check(self, workers: set[str]) -> None:
        """Find out which workers have this version."""
        if not workers:
            return
        versions = self._versions(workers)
        for name in workers - versions.keys() - self.silent:
            self._tell(f"{name} is left out as long as it does not answer")
        self.silent = workers - versions.keys()
        for name, version in versions.items():
            self._checked[name] = version == self.version
            if version != self.version:
                there = f"has {version}" if isinstance(version, str) else "does not have it"
                self._tell(f"{name} is left out: llm-tiered is {self.version} here, and it {there}")

    def _versions(self, workers: set[str]) -> dict[str, Any]:
        """Return the versions on the workers that answer; a worker may be stopped, or gone."""
        from distributed import wait

        with self._client.as_current():
            asked = {
                name: self._client.submit(_version_there(), workers=[name], pure=False)
                for name in workers
            }
            with suppress(asyncio.TimeoutError):
                wait(  # type: ignore[no-untyped-call]  # it has no types
                    list(asked.values()), timeout=ANSWERS_WITHIN
                )
        self._client.cancel([future for future in asked.values() if not future.done()])
        return {
            name: future.result() for name, future in asked.items() if future.status == "finished"
        }

    @contextmanager
    def watching(
        self, seen: Callable[[], object], when_lost: Callable[[], object]
    ) -> Iterator[None]:
        """Look at the cluster again and again; `when_lost` is called if the scheduler is gone.

        `seen` is called after each look.
        """
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(INTERVAL):
                if self._client.status != "running":
                    # It tries to reach the scheduler again, for a long time.
                    when_lost()
                    return
                try:
                    self.refresh()
                    seen()
                except Exception:  # whatever Dask raises once its scheduler is gone
                    if not is_over.is_set():
                        when_lost()
                    return

        thread = threading.Thread(target=watch, name="dask workers", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()


def _resource(info: Any) -> float:
    return float(info.get("resources", {}).get(RESOURCE, 0))


def _version_there() -> Callable[[], str | None]:
    """Return a function that Dask can send to a worker without this package."""

    def version() -> str | None:
        import importlib.metadata

        try:
            return importlib.metadata.version("llm-tiered")
        except importlib.metadata.PackageNotFoundError:
            return None

    return version
