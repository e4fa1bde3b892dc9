"""What a caller does with an engine that runs: ask how it is, generate, and let it go."""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import RequestError
from .channel import Channel, Refused
from .connection import SILENCE, EngineConnection
from .identity import identity
from .incoming import IncomingAnswer
from .place import places
from .reader import READER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ..engine.job import Emit
    from ..engine.requests import CancelToken, GenerationRequest
    from .place import EngineFiles

# Seconds for an engine to end, of which its answers may take ten.
ENDS_WITHIN = 20.0

# Seconds after which people would like to know what they wait for.
A_WHILE = 1.0

_INTERVAL = 0.05

# Seconds without an answer after which people are told why they wait. A busy engine needs less.
SOON = 3.0

logger = logging.getLogger("llm_tiered")


class EngineGone(Exception):
    """The engine ended, or was about to, before it had begun with the request."""


@dataclass(frozen=True)
class RunningEngine:
    """An engine that runs in a place, and its answer to GET /status."""

    place: EngineFiles
    status: Mapping[str, Any]

    @property
    def is_ours(self) -> bool:
        """Whether it is of this version, and in this Python."""
        return dict(self.status.get("identity") or {}) == identity()

    @property
    def budget(self) -> int | None:
        """The memory that models may use by default, in bytes, if it knows that yet."""
        return self.status.get("budget")

    def resident(self) -> dict[str, Path]:
        """Return the models in its memory with their folders."""
        return {model["name"]: Path(model["folder"]) for model in self._models}

    def is_slow(self, name: str, most: int) -> bool:
        """Return whether it has no GPU, and the model in its memory more parameters than that."""
        sizes = {model["name"]: model["parameters"] for model in self._models}
        return self.status.get("device") == "cpu" and sizes.get(name, 0) > most

    @property
    def _models(self) -> Sequence[Mapping[str, Any]]:
        models: Sequence[Mapping[str, Any]] = self.status.get("models", ())
        return models


class NoAnswer(Exception):
    """An engine is there, but does not answer."""

    def __init__(self, connection: EngineConnection) -> None:
        super().__init__("the engine does not answer")
        self.connection = connection


def running(timeout: float = SILENCE) -> RunningEngine | None:
    """Return this user's engine on this machine, or None if there is none.

    One that does not answer within `timeout` seconds is killed; a warning comes before that.
    """
    try:
        return look(timeout, on_silence=_warn_of_silence)
    except NoAnswer as error:
        error.connection.kill()
        return None


def look(
    timeout: float, *, on_silence: Callable[[], object] = lambda: None
) -> RunningEngine | None:
    """Return this user's engine on this machine, or None if there is none.

    Raises NoAnswer if it does not answer within `timeout` seconds; `on_silence` is called if it
    does not answer soon.
    """
    with suppress(OSError):
        for place in places():
            if place.has_socket() and (status := _status(place, timeout, on_silence)) is not None:
                return RunningEngine(place, status)
    return None


def _warn_of_silence() -> None:
    logger.warning("waiting for the engine, which does not answer (llm tiered stop --now ends it)")


def leave(engine: RunningEngine, *, now: bool = False) -> bool:
    """Ask the engine to leave, and return whether it does so at once.

    If it is busy, it leaves after its answers; with `now` they are broken off.
    """
    with suppress(OSError, ValueError, http.client.HTTPException):
        reply = _call(EngineConnection(engine.place), "POST", "/leave", {"now": now})
        return bool(reply["leaves"])
    return False


def end(engine: RunningEngine, *, now: bool, on_wait: Callable[[], object]) -> bool:
    """End the engine, and return whether it ended well, and did not have to be killed.

    The answers it is giving may end first, within a bound, unless it has to end `now`. `on_wait` is
    called if that takes a while.
    """
    connection = EngineConnection(engine.place)
    with suppress(OSError), closing(connection):
        connection.connect()
    if now:
        leave(engine, now=True)
    else:
        connection.send_signal(signal.SIGTERM)
    if _ends(engine, A_WHILE):
        return True
    on_wait()
    if _ends(engine, ENDS_WITHIN):
        return True
    connection.kill()
    return False


def _ends(engine: RunningEngine, within: float) -> bool:
    ends = time.monotonic() + within
    while _lives(engine):
        if time.monotonic() > ends:
            return False
        time.sleep(_INTERVAL)
    return True


def _lives(engine: RunningEngine) -> bool:
    pid = int(engine.status["pid"])
    try:
        os.kill(pid, 0)
        # In some containers nobody takes note of processes that end: they stay as zombies.
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except OSError:
        # There is no such file on macOS.
        return True


def generate(  # noqa: PLR0913, PLR0917 - the request, and callbacks for what becomes of it
    engine: RunningEngine,
    request: GenerationRequest,
    keep_warm: float,
    emit: Emit,
    cancel_token: CancelToken,
    when_ended: Callable[[bool], object],
) -> None:
    """Let the engine answer a request, and pass on its events on another thread.

    Done or Failed come last, unless another engine may take the request; `when_ended` is called
    with whether that is so. `keep_warm` is in seconds. Raises EngineGone if that is clear already,
    or RequestError.
    """
    if join(engine, request, keep_warm, emit, cancel_token, when_ended):
        return
    with READER.opening:
        # Another thread may have been faster.
        if join(engine, request, keep_warm, emit, cancel_token, when_ended):
            return
        channel = Channel(engine.place, _instance(engine))
        cancel_token.on_cancel(channel.connection.interrupt)
        answer = IncomingAnswer(engine.place, channel.instance, request.name, emit, when_ended)
        try:
            with _unwritable():
                number = channel.open(answer, request, keep_warm)
        except TimeoutError:
            channel.connection.kill()
            channel.connection.end()
            raise EngineGone from None
        except BaseException as error:
            channel.connection.end()
            if isinstance(error, Refused):
                raise EngineGone from None
            raise
        # Before others use the connection: from now on, a cancellation must not interrupt it.
        _cancel_with(cancel_token, channel, number)
        READER.add(channel)


def join(  # noqa: PLR0913, PLR0917 - as above
    engine: RunningEngine,
    request: GenerationRequest,
    keep_warm: float,
    emit: Emit,
    cancel_token: CancelToken,
    when_ended: Callable[[bool], object],
) -> bool:
    """Do what `generate` does, if that takes no waiting; return whether it was done.

    That is so as long as the engine has other requests of this process. Raises RequestError.
    """
    channel = READER.latest
    if channel is None or channel.instance != _instance(engine):
        return False
    answer = IncomingAnswer(engine.place, channel.instance, request.name, emit, when_ended)
    was_idle = channel.is_idle
    with _unwritable():
        number = channel.join(answer, request, keep_warm)
    if number is None:
        return False
    if was_idle or channel.has_unsent:
        # Its thread waits for this answer from now on, or has something to send.
        READER.wake()
    _cancel_with(cancel_token, channel, number)
    return True


def _instance(engine: RunningEngine) -> str:
    return str(engine.status["instance"])


def _cancel_with(cancel_token: CancelToken, channel: Channel, number: int) -> None:
    def cancel() -> None:
        if channel.cancel(number):
            READER.wake()

    cancel_token.on_cancel(cancel)


@contextmanager
def _unwritable() -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"the request can't be written as JSON: {error}") from None


def _status(
    place: EngineFiles, timeout: float, on_silence: Callable[[], object]
) -> dict[str, Any] | None:
    connection = EngineConnection(place, timeout)
    try:
        return _call(connection, "GET", "/status", on_silence=on_silence)
    except TimeoutError:
        raise NoAnswer(connection) from None
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _call(
    connection: EngineConnection,
    method: str,
    path: str,
    body: Any = None,
    on_silence: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    try:
        connection.request(method, path, None if body is None else json.dumps(body).encode())
        if not connection.answers_within(SOON):
            on_silence()
        reply: dict[str, Any] = json.loads(connection.getresponse().read())
    finally:
        connection.end()
    return reply
