"""What the engine's process answers on its socket."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import resource
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from ...errors import EngineError, TieredError
from ..engine.requests import Failed
from . import frames, wire
from .identity import identity
from .stream import EventStream, Outbox
from .unloading import Unloading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ..engine.engine import Engine
    from ..engine.requests import GenerationRequest
    from .lifetime import Lifetime

# Seconds for answers that are not complete when the engine is told to end.
PATIENCE = 10.0

_INTERVAL = 0.05
_CONFLICT = 409


class EngineApp:
    """The engine's own HTTP API: GET /status and /hold, POST /generate and /leave."""

    def __init__(self, engine: Engine, lifetime: Lifetime) -> None:
        self._engine = engine
        self._lifetime = lifetime
        self._instance = f"{os.getpid()}-{time.time_ns()}"
        self._started = time.time()
        self._streams: dict[EventStream, str] = {}
        self._answers: set[asyncio.Future[None]] = set()
        self._patience = PATIENCE
        self._over = asyncio.Event()
        self._unloading = Unloading(engine, lambda: lifetime.keep_warm, lambda: bool(self._streams))
        self._routes: ASGIApp = Starlette(
            routes=[
                Route("/status", self._status),
                Route("/leave", self._leave, methods=["POST"]),
                Route("/generate", _Endpoint(self._generate), methods=["POST"]),
                Route("/hold", _Endpoint(self._hold)),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if (scope.get("method"), scope.get("path")) == ("POST", "/generate"):
            # Starlette's layers would cost as much as the server itself, for every token.
            await self._generate(receive, send, dict(scope["headers"]))
        else:
            await self._routes(scope, receive, send)

    async def _status(self, _: Request) -> Response:
        answers = Counter(name for stream, name in self._streams.items() if stream.has_started)
        running = answers.total()
        status = {
            "identity": identity(),
            "instance": self._instance,
            "pid": os.getpid(),
            "started": self._started,
            "until": self._lifetime.until,
            "cpu": time.process_time(),
            "peak_memory": _peak_memory(),
            "running": running,
            "waiting": len(self._streams) - running,
            "models": [
                {
                    "name": model.name,
                    "folder": str(model.folder),
                    "bytes": model.memory,
                    "parameters": model.parameters,
                    "last_used": model.last_used,
                    "tokens_per_second": model.tokens_per_second,
                    "answers": answers[model.name],
                    "until": None
                    if answers[model.name]
                    else model.last_used + self._lifetime.keep_warm,
                }
                for model in self._engine.models()
            ],
            "unloaded": [dataclasses.asdict(model) for model in self._unloading.latest],
            **_device(),
        }
        return _json(status)

    async def _leave(self, request: Request) -> Response:
        asked = await request.body()
        now = bool(json.loads(asked).get("now")) if asked else False
        leaves = now or self._lifetime.is_idle
        if now:
            self._patience = 0.0
            self._lifetime.leave()
        self._lifetime.leave_when_idle()
        return _json({"leaves": leaves})

    async def finish(self) -> None:
        """Let answers end, for a while, and then fail those that are left."""
        ends = time.monotonic() + self._patience
        while self._streams and time.monotonic() < ends:
            await asyncio.sleep(_INTERVAL)
        await asyncio.to_thread(self._engine.close)
        # The worker may be in the middle of a step that takes long, such as loading a model.
        for stream in self._streams:
            stream.put(Failed(EngineError("the engine was closed before the answer was complete")))
        for _ in range(10):
            if self._streams:
                await asyncio.sleep(_INTERVAL)
        self._over.set()

    async def _hold(self, receive: Receive, send: Send, headers: dict[bytes, bytes]) -> None:
        with self._lifetime.use():
            await _begin(send)
            await send({"type": "http.response.body", "body": wire.HEARTBEAT, "more_body": True})
            ends = [
                asyncio.ensure_future(end) for end in (_disconnected(receive), self._over.wait())
            ]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            await send({"type": "http.response.body", "body": b""})

    async def _generate(self, receive: Receive, send: Send, headers: dict[bytes, bytes]) -> None:
        """Take requests and cancellations, a line each, and answer until the caller leaves."""
        named = headers.get(b"x-engine", b"").decode("latin-1")
        if self._lifetime.is_leaving or named != self._instance:
            await _begin(send, _CONFLICT)
            await send({"type": "http.response.body", "body": b""})
            return
        await _begin(send)
        outbox = Outbox()
        reading = asyncio.ensure_future(self._read(receive, outbox))
        over = asyncio.ensure_future(self._over.wait())
        for end in (reading, over):
            end.add_done_callback(lambda _: outbox.close())
        try:
            await outbox.send_to(send)
            await send({"type": "http.response.body", "body": b""})
        finally:
            over.cancel()
            reading.cancel()

    async def _read(self, receive: Receive, outbox: Outbox) -> None:
        streams: dict[int, EventStream] = {}
        try:
            async for line in _lines(receive):
                number, asked = frames.read_question(line)
                if asked is not None:
                    self._start(number, asked, outbox, streams)
                elif stream := streams.get(number):
                    stream.cancel()
        except ValueError:
            # Whoever writes nonsense is not heard any more.
            return
        finally:
            for stream in streams.values():
                stream.cancel()

    def _start(
        self,
        number: int,
        asked: Any,
        outbox: Outbox,
        streams: dict[int, EventStream],
    ) -> None:
        try:
            request, keep_warm = wire.load_request(asked["request"]), float(asked["keep_warm"])
        except (ValueError, KeyError, TypeError):
            outbox.add(frames.nothing(number))
            return
        if self._lifetime.is_leaving:
            outbox.add(frames.nothing(number))
            return
        stream = streams[number] = EventStream(number, outbox, lambda: len(self._streams) - 1)
        answer = asyncio.ensure_future(self._answer(stream, request, keep_warm))
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)
        answer.add_done_callback(lambda _: streams.pop(number, None))

    async def _answer(
        self, stream: EventStream, request: GenerationRequest, keep_warm: float
    ) -> None:
        self._streams[stream] = request.name
        self._unloading.watch()
        with self._lifetime.use(keep_warm):
            submission = self._submit(request, stream)
            try:
                await stream.ended.wait()
            finally:
                if submission:
                    submission.cancel()
                stream.cancel()
                del self._streams[stream]

    def _submit(
        self, request: GenerationRequest, stream: EventStream
    ) -> asyncio.Future[None] | None:
        """Queue a request, at once or, if others have to end first, by a task."""
        try:
            if self._engine.submit(request, stream.put, stream.cancel_token, wait=False):
                return None
        except TieredError as error:
            stream.put(Failed(error))
            return None
        return asyncio.ensure_future(self._submit_later(request, stream))

    async def _submit_later(self, request: GenerationRequest, stream: EventStream) -> None:
        try:
            await asyncio.to_thread(self._engine.submit, request, stream.put, stream.cancel_token)
        except TieredError as error:
            stream.put(Failed(error))


class _Endpoint:
    """An endpoint that reads and writes by itself. Starlette takes a bare function for another."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(receive, send, dict(scope["headers"]))


async def _begin(send: Send, status: int = 200) -> None:
    headers = [(b"content-type", b"application/jsonl")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _lines(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the lines of a body that has no end, until the caller leaves."""
    parts: list[bytes] = []
    while (message := await receive())["type"] == "http.request":
        *lines, rest = message.get("body", b"").split(b"\n")
        for line in lines:
            yield b"".join([*parts, line])
            parts.clear()
        parts.append(rest)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _peak_memory() -> int:
    """Return the largest memory of this process so far, in bytes."""
    # On Linux, resource counts the process before it became this program, too.
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _device() -> dict[str, Any]:
    """Return what MLX computes on, and the bytes that models may use, once it is loaded."""
    if "mlx.core" not in sys.modules:
        return {}
    from .. import device

    here = device.detect()
    return {"device": here.kind, "budget": here.budget}


def _json(value: Any) -> Response:
    return Response(json.dumps(value), media_type="application/json")
