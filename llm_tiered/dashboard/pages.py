"""The pages, the link to them, and the queries behind the charts."""

from __future__ import annotations

import asyncio
import json
import shlex
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from .. import wording
from ..errors import RequestError, TieredError
from ..log.database import as_logged
from ..wording import line, visible
from . import access, amounts
from .charts import build_charts
from .figures import (
    DEFAULT_SINCE,
    TimeRange,
    energy_price,
    has_requests_to_tiered,
    load_figures,
)
from .queries import PREFIX, build_queries
from .requests import find_request, latest_requests

if TYPE_CHECKING:
    from datasette.app import Datasette
    from datasette.database import Database
    from datasette.utils.asgi import Request, Response

    from .access import Actor
    from .figures import Figures

# The periods that one click chooses: the label, and the value of `since`.
PERIODS = (
    ("7 days", "7d"),
    ("30 days", DEFAULT_SINCE),
    ("90 days", "90d"),
    ("1 year", "365d"),
    ("all", ""),
)


async def overview(request: Request, datasette: Datasette) -> Response:
    """Return the page for all requests of a period."""
    from datasette.utils.asgi import Response

    database = await log_of(request, datasette)
    times = TimeRange(
        request.args.get("since", DEFAULT_SINCE).strip(), request.args.get("until", "").strip()
    )
    context = context_of(datasette, database) | {"times": times, "periods": PERIODS}
    status = 200
    try:
        context |= await asyncio.to_thread(_overview, Path(database.path), times)
    except TieredError as error:
        status = 400 if isinstance(error, RequestError) else 503
        context["error"] = str(error)
    if "figures" in context and await access.may_query(datasette, request.actor, database):
        await store_queries(datasette, database, again=False)
        context["query_arguments"] = _query_arguments(context["figures"])
    html = await datasette.render_template("tiered_overview.html", context, request=request)
    return Response.html(html, status=status)


async def request(request: Request, datasette: Datasette) -> Response:
    """Return the page for one request."""
    from datasette.utils import tilde_decode
    from datasette.utils.asgi import Response

    database = await log_of(request, datasette)
    id_ = tilde_decode(request.url_vars["request"])
    context = context_of(datasette, database)
    status = 200
    try:
        logged = await asyncio.to_thread(find_request, Path(database.path), id_)
        energy = await asyncio.to_thread(energy_price)
        context |= {"logged": logged, "energy": energy}
        if logged is None:
            status = 404
            context["error"] = f"there is no request to tiered with the id {line(id_, 80)}"
    except TieredError as error:
        status = 503
        context["error"] = str(error)
    html = await datasette.render_template("tiered_request.html", context, request=request)
    return Response.html(html, status=status)


async def links(datasette: Datasette, actor: Actor, name: str) -> list[dict[str, str]]:
    """Return the links to the pages, if the database is a log that the actor may see."""
    database = datasette.get_database(name)
    if not await access.is_log(database) or not await access.may_see(datasette, actor, database):
        return []
    return [
        {
            "href": f"{datasette.urls.database(name)}/-/tiered",
            "label": "Requests to tiered",
            "description": "What they cost, what they saved, and how they were answered.",
        },
        {
            "href": f"{datasette.urls.database(name)}/-/tiered-replays",
            "label": "Replays",
            "description": "What other settings would have done with them.",
        },
    ]


async def canned_queries(datasette: Datasette, name: str) -> dict[str, dict[str, str]]:
    """Return the queries behind the charts, if the database is a log."""
    database = datasette.get_database(name)
    if not await access.is_log(database):
        return {}
    queries = await database.execute_fn(build_queries)
    return {key: {"sql": query.sql, "title": query.title} for key, query in queries.items()}


async def may_run(datasette: Datasette, actor: Actor, name: str, query: str) -> bool | None:
    """Return False if the query is ours and the actor may not run it, otherwise None."""
    database = datasette.get_database(name)
    if not query.startswith(PREFIX) or not await access.is_log(database):
        return None
    return None if await access.may_query(datasette, actor, database) else False


async def store_queries(
    datasette: Datasette, database: Database | None = None, *, again: bool = True
) -> None:
    """Store the queries of one database, or of all, where Datasette 1.0 keeps them.

    They are not marked as trusted, so that only actors who may run SQL can run them.
    """
    if not hasattr(datasette, "add_query"):
        return
    for each in [database] if database else list(datasette.databases.values()):
        if await access.is_log(each):
            for name, query in (await each.execute_fn(build_queries)).items():
                if again or await datasette.get_query(each.name, name) is None:
                    await datasette.add_query(each.name, name, query.sql, title=query.title)


async def log_of(request: Request, datasette: Datasette) -> Database:
    """Return the database in the URL. Raises Forbidden, or NotFound if it is not llm's log."""
    from datasette.utils import tilde_decode
    from datasette.utils.asgi import Forbidden, NotFound

    route = tilde_decode(request.url_vars["database"])
    try:
        database = datasette.get_database(route=route)
    except KeyError:
        raise NotFound(f"Database not found: {route}") from None
    if not await access.may_see(datasette, request.actor, database):
        raise Forbidden("You do not have permission to view this database and its tables")
    if not await access.is_log(database):
        raise NotFound(f"{database.name} is not an llm log")
    return database


def context_of(datasette: Datasette, database: Database) -> dict[str, Any]:
    """Return what both templates use.

    `row`, `page` and `query` return the URL of a row, of a request's page and of a query.
    """
    from datasette.utils import tilde_encode

    here = f"{datasette.urls.database(database.name)}/-/tiered"
    return {
        "database": database.name,
        "here": here,
        "row": lambda table, id_: datasette.urls.row(database.name, table, tilde_encode(str(id_))),
        "page": lambda id_: f"{here}/{tilde_encode(str(id_))}",
        "query": lambda name: datasette.urls.query(database.name, name),
        "quoted": shlex.quote,
        "as_json": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        "visible": visible,
        "line": line,
        "money": amounts.money,
        "dollars": amounts.dollars,
        "unpriced": amounts.unpriced,
        "percent": wording.percent,
        "seconds": wording.seconds,
        "number": wording.number,
    }


def _overview(path: Path, times: TimeRange) -> dict[str, Any]:
    figures = load_figures(path, times)
    return {
        "figures": figures,
        "charts": build_charts(figures),
        "latest": latest_requests(path, figures.period),
        "rates": {
            name: wording.dollars(rate and Decimal(rate))
            for name in ("month", "year")
            for rate in [figures.reports["day"][f"saved_per_{name}"]]
        },
        "has_requests": figures.total["requests"] or has_requests_to_tiered(path),
    }


def _query_arguments(figures: Figures) -> str:
    """Return the arguments with which the queries give the figures of the page."""
    since, until = (time and as_logged(time) for time in figures.period)
    model = figures.reports["day"]["cloud_model"]
    return urlencode({"since": since or "", "until": until or "", "cloud_model": model or ""})
