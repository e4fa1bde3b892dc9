"""One row → its answer: the request, the answer in the output, the log."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config.settings import held_settings, load_settings
from ..costs.charges import cost_of_response
from ..endings import attentive
from ..endpoints.pool import concurrency_of
from ..errors import LostServer, TieredError
from ..log import writer
from ..log.record import Record
from ..mlx.process import choice
from ..router import completeness
from ..router.failures import explain
from ..router.model import AsyncTieredModel
from ..router.request import prepare
from .limits import LOCAL_CONCURRENCY, LimitInAnswer, is_local
from .slots import Slots

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    import llm
    from llm.models import _BaseModel

    from ..cluster.engine import ClusterEngine
    from ..config.tiers import Tier
    from .limits import AsyncModel
    from .rows import Row


# How often a row is asked for again whose server was lost in the middle of the answer.
LOST_SERVERS = 3


class _First(NamedTuple):
    """The first model for a prompt: where it runs, and whether the prompt must stay here.

    `served` is its tier if that has servers.
    """

    is_local: bool
    must_stay: bool
    served: Tier | None = None


class RowAsker:
    """Sends rows to a model, with at most `concurrency` requests to the cloud at the same time.

    Rows for local models that may leave this machine go to the `cluster`, if there is one.
    """

    def __init__(
        self,
        model: AsyncModel,
        concurrency: int,
        *,
        log: bool,
        cluster: ClusterEngine | None = None,
    ) -> None:
        self._model = model
        self._log = log
        self._cluster = cluster
        self._log_here = log and needs_logging(model)
        # A request waits here and not at the gate of its model, so that the logged time excludes
        # the wait. Only a fallback may have to wait at the cloud's gate.
        self._here = asyncio.Semaphore(LOCAL_CONCURRENCY)
        self._cloud = asyncio.Semaphore(concurrency)
        self._servers: dict[str, asyncio.Semaphore] = {}
        self._workers = Slots(lambda: cluster.room) if cluster else None

    async def ask(
        self,
        row: Row,
        begin: Callable[[], object],
        keep: Callable[[dict[str, Any]], None],
    ) -> tuple[dict[str, Any], Decimal | None]:
        """Return the answer to a row, and its price in dollars or None if unknown.

        `begin` is called when the row no longer waits for its turn. `keep` receives the answer
        before it is logged: a paid answer must not be lost while another process locks the log.
        Raises whatever the model or `keep` raises.
        """
        lost = 0
        while True:
            try:
                return await self._ask(row, begin, keep)
            except Exception as error:
                # Whatever there is of the answer, nobody has seen it yet. `tiered` wraps the error.
                for each in (error, error.__cause__):
                    if isinstance(each, LimitInAnswer):
                        break
                    if isinstance(each, LostServer) and lost < LOST_SERVERS:
                        lost += 1
                        break
                else:
                    raise

    async def _ask(
        self,
        row: Row,
        begin: Callable[[], object],
        keep: Callable[[dict[str, Any]], None],
    ) -> tuple[dict[str, Any], Decimal | None]:
        answers: list[dict[str, Any]] = []
        place = AsyncExitStack()
        with held_settings():
            response = start(self._model, row)

        async def when_complete(_: llm.AsyncResponse) -> None:
            check_whole(response)
            answers.append(await _describe(row, response))
            keep(answers[0])
            if not self._log:
                # Removes the callback of `tiered` that writes the log.
                response.done_callbacks.clear()
            # Another row can be asked while this one is logged.
            await place.aclose()

        await response.on_done(when_complete)
        async with place:
            await self._wait_for_turn(response, place)
            begin()
            with held_settings():
                await response
        if self._log_here:
            await writer.write_async(response)
        return answers[0], cost_of_response(response)

    async def _wait_for_turn(self, response: llm.AsyncResponse, place: AsyncExitStack) -> None:
        """Wait where the first model for the prompt runs, and use the cluster if that is there.

        `place` is left when others may come. A row may wait for hours: if the config is another
        one by then, it is decided again where the prompt goes.
        """
        while True:
            with held_settings() as settings:
                first = self._first(response)
            may_leave = self._cluster is not None and not first.must_stay
            await place.enter_async_context(self._slots(first, on_workers=may_leave))
            if load_settings() is settings:
                break
            await place.aclose()
        if self._cluster:
            # A fallback of a request to the cloud may be local, too.
            choice.use(self._cluster if may_leave else None)

    def _slots(self, first: _First, *, on_workers: bool) -> Any:
        """Where a request waits for its turn."""
        if tier := first.served:
            return self._servers.setdefault(tier.name, asyncio.Semaphore(concurrency_of(tier)))
        if not first.is_local:
            return self._cloud
        return self._workers if on_workers else self._here

    def _first(self, response: llm.AsyncResponse) -> _First:
        """What the first model for the prompt is.

        The workers of a cluster are machines of the user's.
        """
        if isinstance(self._model, AsyncTieredModel):
            request = prepare(response)
            candidate = request.candidates[0]
            tier = request.settings.tier(candidate.tier)
            served = tier if tier and tier.server else None
            return _First(candidate.in_engine, request.decision.keep_local, served)
        return _First(is_local(self._model), load_settings().local_only)


def start(model: AsyncModel, row: Row) -> llm.AsyncResponse:
    """Return the response to a row, not awaited yet."""
    response: llm.AsyncResponse = attentive(model).prompt(
        row.prompt, system=row.system, schema=row.schema, options=row.options
    )
    return response


def check_whole(response: llm.AsyncResponse) -> None:
    """Raise an error if a finished answer is not whole; `tiered` raises that itself."""
    model: Any = response.model
    if not isinstance(model, AsyncTieredModel):
        calls = len(response._tool_calls)
        completeness.check(response, response._stream_events, calls=calls, local=is_local(model))


def needs_logging(model: AsyncModel) -> bool:
    """Whether the caller has to log the model's answers: `tiered` logs its own."""
    if isinstance(model, AsyncTieredModel):
        return False
    return writer.must_log(log_api=load_settings().config.log_api)


def reason(error: Exception, model: _BaseModel | None = None) -> str:
    """Return why the model gave no answer, with the fix if there is one, and without any key."""
    if isinstance(error, TieredError):
        return str(error)
    problem = explain(error, model=model)
    return f"{problem.reason} ({problem.fix})" if problem.fix else problem.reason


async def _describe(row: Row, response: llm.AsyncResponse) -> dict[str, Any]:
    """Return the answer as the output shows it."""
    text = response.text_or_raise()
    answer: dict[str, Any] = {"id": row.id, "line": row.line, "response": text}
    if row.schema:
        answer["json"] = _parse(text)
    record = Record.from_json(response.response_json)
    return answer | {
        "model": response.resolved_model or response.model.model_id,
        "tier": record and (record.answered_by or record.tier),
        "input_tokens": response.input_tokens,
        "output_tokens": response.output_tokens,
        "ms": await response.duration_ms(),
    }


def _parse(text: str) -> Any:
    """Return the JSON value of a text, or None if it is not valid JSON."""
    try:
        value = json.loads(text)
        # Python reads a number that is too large as infinity, which JSON can't express.
        json.dumps(value, allow_nan=False)
    except ValueError:
        return None
    return value
