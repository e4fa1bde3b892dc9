"""Servers that failed, known to all processes: why, and until when they are left alone.

`llm -m tiered` is a process for each prompt, so each such server has a small file. A server that
answers has none, and looking for it takes microseconds.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from .. import atomic
from ..forks import after_fork
from ..paths import endpoints_folder

if TYPE_CHECKING:
    from pathlib import Path

# What shows that a server is back: the end of the time, its health check, or an answer.
Proof: TypeAlias = Literal["time", "health", "answer"]
_PROOFS = get_args(Proof)

# Seconds for which a server is left alone after its first failure, and at most. They double with
# each failure in a row, so that one that is started again is noticed soon.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0

# The longest outage in seconds, whatever a server asks for.
LONGEST_OUTAGE = 25 * 3600.0


@dataclass(frozen=True)
class Outage:
    """Why a server is left alone, and until when, in seconds since 1970.

    After that it is asked again once the `proof` is given. `failures` counts those in a row.
    """

    reason: str
    until: float
    proof: Proof = "health"
    failures: int = 1

    def left(self, now: float) -> float:
        """Return for how many more seconds the server is left alone: 0 if it may be tried.

        An impossible time, because the clock was wrong then or is now, counts as over.
        """
        left = self.until - now
        return left if 0 < left <= LONGEST_OUTAGE else 0.0

    def is_over(self, now: float) -> bool:
        """Whether the time is over and no other proof is needed."""
        return self.proof == "time" and not self.left(now)


def outage_after(
    reason: str,
    earlier: Outage | None,
    now: float,
    *,
    proof: Proof = "health",
    wait: float | None = None,
) -> Outage:
    """Return the outage after a failure; `wait` is the time in seconds that the server asks for."""
    failures = earlier.failures + 1 if earlier else 1
    if wait is not None:
        return Outage(reason, now + min(wait, LONGEST_OUTAGE), "time", failures)
    if earlier and earlier.proof == "answer":
        proof = "answer"  # it hung, and a health check does not show that it no longer does
    pause = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE)
    # Asking for an answer takes seconds if none comes, so it is done seldom.
    return Outage(reason, now + (LONGEST_PAUSE if proof == "answer" else pause), proof, failures)


class Outages:
    """The known outages, by the address of the server.

    They are files in llm's user directory. Where that is read-only, this process remembers them.
    """

    def __init__(self) -> None:
        self._unwritten: dict[str, Outage] = {}
        self._lock = threading.Lock()

    def find(self, address: str) -> Outage | None:
        """Return the outage of a server, even if its time is over, or None."""
        try:
            return _parse(_path(address).read_bytes())
        except OSError:
            return self._unwritten.get(address)

    def note(self, address: str, outage: Outage) -> None:
        """Leave a server alone."""
        path = _path(address)
        content = json.dumps(asdict(outage)).encode()
        with self._lock:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                atomic.write_file(path, content)
            except OSError:
                self._unwritten[address] = outage
            else:
                self._unwritten.pop(address, None)

    def end(self, address: str) -> None:
        """Note that a server answers."""
        with self._lock, suppress(OSError):
            self._unwritten.pop(address, None)
            _path(address).unlink()


OUTAGES = Outages()


def _after_fork() -> None:
    # A thread of the parent may have held it.
    OUTAGES._lock = threading.Lock()


after_fork(_after_fork)


def now() -> float:
    """Return the time by which outages end, in seconds since 1970."""
    return time.time()


def _path(address: str) -> Path:
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    return endpoints_folder() / f"{name}.json"


def _parse(content: bytes) -> Outage | None:
    """The outage in a file, or None if it is damaged or of another version."""
    try:
        facts = json.loads(content)
        until = float(facts["until"])
        outage = Outage(str(facts["reason"]), until, facts["proof"], int(facts["failures"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    valid = outage.proof in _PROOFS and outage.failures > 0 and math.isfinite(until)
    return outage if valid else None
