"""The servers of this package that a prompt has passed through, so that none of them asks itself.

A tier may be the `tiered` of another `llm tiered serve`, and that one's tier that of a third.
"""

from __future__ import annotations

import uuid
from contextvars import ContextVar

# The ids of the servers, in their order.
HEADER = "x-tiered-via"

_passed: ContextVar[str] = ContextVar("passed", default="")


def new_id() -> str:
    """Return an id for a server."""
    return uuid.uuid4().hex


def enter(server_id: str, header: str) -> bool:
    """Note that the request of this task is at a server; return whether it was there before.

    `header` is what the request says.
    """
    passed = [each.strip() for each in header.split(",") if each.strip()]
    _passed.set(", ".join([*passed, server_id]))
    return server_id in passed


def headers() -> dict[str, str]:
    """Return what a request to the next server says, if this one came through any."""
    passed = _passed.get()
    return {HEADER: passed} if passed else {}
