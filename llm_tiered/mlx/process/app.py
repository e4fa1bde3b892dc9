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
from ..engine.requests import CancelToken, Failed
from . import wire
from .identity import identity
from .stream import EventStream
from .unloading import Unloading

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ..engine.engine import Engine
    from ..engine.requests import GenerationRequest
    from .lifetime import Lifetime

# Seconds for answers that are not complete when the engine is told to end.
PATIENCE = 10.0

_INTERVAL = 0.05
_BAD_REQUEST, _CONFLICT = 400, 409


class EngineApp:
    """The engine's own HTTP API: GET /status and /hold, POST /generate and /leave."""

    def __init__(self, engine: Engine, lifetime: Lifetime) -> None:
        self._engine = engine
        self._lifetime = lifetime
        self._instance = f"{os.getpid()}-{time.time_ns()}"
        self._started = time.time()
        self._streams: dict[EventStream, str] = {}
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
        body = await _body(receive)
        named = headers.get(b"x-engine", b"").decode("latin-1")
        if self._lifetime.is_leaving or named != self._instance:
            await _begin(send, _CONFLICT)
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            asked = json.loads(body)
            request, keep_warm = wire.load_request(asked["request"]), float(asked["keep_warm"])
        except (ValueError, KeyError, TypeError):
            await _begin(send, _BAD_REQUEST)
            await send({"type": "http.response.body", "body": b""})
            return
        stream, cancel_token = EventStream(lambda: len(self._streams) - 1), CancelToken()
        self._streams[stream] = request.name
        self._unloading.watch()
        with self._lifetime.use(keep_warm):
            await _begin(send)
            watch = asyncio.ensure_future(_cancel_when_left(receive, stream, cancel_token))
            # It may have to wait for others, and heartbeats are sent meanwhile.
            submission = asyncio.ensure_future(self._submit(request, stream, cancel_token))
            try:
                await stream.send_to(send)
                await send({"type": "http.response.body", "body": b""})
            finally:
                watch.cancel()
                submission.cancel()
                cancel_token.cancel()
                del self._streams[stream]

    async def _submit(
        self, request: GenerationRequest, stream: EventStream, cancel_token: CancelToken
    ) -> None:
        try:
            if not self._engine.submit(request, stream.put, cancel_token, wait=False):
                await asyncio.to_thread(self._engine.submit, request, stream.put, cancel_token)
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


async def _body(receive: Receive) -> bytes:
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel_when_left(
    receive: Receive, stream: EventStream, cancel_token: CancelToken
) -> None:
    await _disconnected(receive)
    cancel_token.cancel()
    stream.end()


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
