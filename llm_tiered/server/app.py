"""The endpoints of the server, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from .. import passage
from ..errors import TieredError
from . import stored
from .chat import COMPLETIONS, RESPONSES, Answers
from .failure import NO_RETRY, ApiError, api_error, bad_request
from .line import Line
from .metrics import CONTENT_TYPE, Metrics
from .offers import Offers

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ..mlx.process.lease import Lease
    from .access import Access

logger = logging.getLogger("llm_tiered.server")

_OPEN = ("/health",)


class Endpoints:
    """The application: its routes, behind the rules of access. `line` are the running requests.

    `lease` keeps the engine; one that a request has started is kept from then on.
    """

    def __init__(self, access: Access, lease: Lease | None = None) -> None:
        self.line = Line()
        self._access = access
        self._lease = lease
        self._offers = Offers()
        self._metrics = Metrics()
        self._started = int(time.time())
        self._id = passage.new_id()
        shared = (self._offers, self.line, self._metrics)
        self._answers = {api.path: Answers(api, *shared) for api in (COMPLETIONS, RESPONSES)}
        self._routes: ASGIApp = Starlette(
            routes=[
                *(
                    Route(path, answers, methods=["POST"])
                    for path, answers in self._answers.items()
                ),
                Route("/v1/responses/{id}", self._response),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                Route("/health", self._health),
                Route("/metrics", self._show_metrics),
            ],
            exception_handlers={
                HTTPException: _wrong_route,
                ApiError: _failed,
                TieredError: _failed,
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, if it is allowed."""
        if scope["type"] != "http":
            return
        try:
            self._access.check(scope, needs_key=scope["path"] not in _OPEN)
            self._refuse_loops(scope)
        except ApiError as error:
            self._metrics.count_request(error.status)
            logger.info("%s %s", error.status, error.code)
            # What follows of the body is not read.
            await _error(error, {"connection": "close"})(scope, receive, send)
            return
        answers = self._answers.get(scope["path"]) if scope["method"] == "POST" else None
        # Starlette's layers would cost as much as the rest, for every token.
        await (answers or self._routes)(scope, receive, send)
        if self._lease and scope["method"] == "POST" and not self._lease.is_held:
            await asyncio.to_thread(self._lease.renew)

    def _refuse_loops(self, scope: Scope) -> None:
        """Raise ApiError for a request that this server sent, perhaps by way of others."""
        header = dict(scope["headers"]).get(passage.HEADER.encode(), b"")
        if passage.enter(self._id, header.decode("latin-1")):
            message = "this server asks itself: it is the server of one of its own tiers"
            raise ApiError(508, message, code="loop", headers=NO_RETRY)

    async def _models(self, _: Request) -> Response:
        names = await asyncio.to_thread(self._offers.names)
        return _json({"object": "list", "data": [self._described(name) for name in names]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        await asyncio.to_thread(self._offers.find, name)
        return _json(self._described(name))

    def _described(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "llm-tiered"}

    async def _response(self, request: Request) -> Response:
        if request.query_params.get("stream", "false").lower() not in ("false", "0"):
            raise bad_request("stream: a response from the log comes whole", "stream")
        return _json(await asyncio.to_thread(stored.response, request.path_params["id"]))

    async def _health(self, _: Request) -> Response:
        return _json({"status": "ok"})

    async def _show_metrics(self, _: Request) -> Response:
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(value), status, headers, media_type="application/json")


def _error(error: ApiError, headers: dict[str, str] | None = None) -> Response:
    return _json(error.body(), error.status, error.headers | (headers or {}))


async def _wrong_route(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = "this address has another method" if status == 405 else "there is no such address"
    code = "method_not_allowed" if status == 405 else "not_found"
    headers = getattr(error, "headers", None)
    return _error(ApiError(status, message, code=code, headers=headers))


async def _failed(_: Request, error: Exception) -> Response:
    return _error(api_error(error))
