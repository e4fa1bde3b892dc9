"""The lines between a process and its engine, each with the number of the request it belongs to.

A process has all its requests on one connection and numbers them. After the number, the process
writes the request, or nothing, which cancels it. The engine writes an event, or nothing, which
means that another engine has to take the request.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from . import wire

if TYPE_CHECKING:
    from ..engine.requests import Event, GenerationRequest

NOBODY = 0
"""The number of heartbeats, which are for no request."""


def question(number: int, request: GenerationRequest, keep_warm: float) -> bytes:
    """Return the line that asks for an answer; `keep_warm` is in seconds.

    Raises TypeError, ValueError or RecursionError if a part of the request can't be written.
    """
    body = json.dumps({"request": wire.dump_request(request), "keep_warm": keep_warm})
    return b"%d %b\n" % (number, body.encode())


def answer(number: int, event: Event) -> bytes:
    """Return the line of an event."""
    return b"%d %b" % (number, wire.dump_event(event))


def nothing(number: int) -> bytes:
    """Return the line that cancels a request, or that refuses to answer it."""
    return b"%d \n" % number


def read_question(line: bytes) -> tuple[int, Any]:
    """Return the number and the content of a `question`; None cancels it. Raises ValueError."""
    number, _, body = line.partition(b" ")
    return int(number), json.loads(body) if body else None


def read_answer(line: bytes) -> tuple[int, Event | None]:
    """Return the number and the event of an `answer`; None refuses it. Raises ValueError."""
    number, _, body = line.partition(b" ")
    if not body:
        return (NOBODY if line + b"\n" == wire.HEARTBEAT else int(number)), None
    return int(number), wire.load_event(body)
