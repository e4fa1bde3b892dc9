"""The pages, and what else Datasette asks for."""

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
from ..log import database as log_database
from ..wording import line, visible
from . import access, charts, figures, numbers, queries, requests

if TYPE_CHECKING:
    from datasette.app import Datasette
    from datasette.database import Database
    from datasette.utils.asgi import Request, Response

    from .access import Actor
    from .figures import Asked, Figures

# What can be chosen with one click: the words, and what the command would be told.
PERIODS = (
    ("7 days", "7d"),
    ("30 days", figures.DEFAULT),
    ("90 days", "90d"),
    ("a year", "365d"),
    ("all", ""),
)

SOURCES = {
    "tier": "the request named the tier",
    "option": "the request gave the complexity",
    "task": "the task has this complexity",
    "conversation": "the conversation was there before",
    "estimate": "estimated from the prompt",
    "default": "nothing was said, so the default of the config",
}


async def overview(request: Request, datasette: Datasette) -> Response:
    """The page for all requests of a period."""
    from datasette.utils.asgi import Response

    database = await _log(request, datasette)
    asked = figures.Asked(
        request.args.get("since", figures.DEFAULT).strip(), request.args.get("until", "").strip()
    )
    context = await _context(request, datasette, database) | {"asked": asked, "periods": PERIODS}
    status = 200
    try:
        context |= await asyncio.to_thread(_overview, Path(database.path), asked)
    except TieredError as error:
        status = 400 if isinstance(error, RequestError) else 503
        context["error"] = str(error)
    if "figures" in context and await access.may_query(datasette, request.actor, database):
        await store_queries(datasette, database, again=False)
        context["query_arguments"] = _arguments(context["figures"])
    html = await datasette.render_template("tiered_overview.html", context, request=request)
    return Response.html(html, status=status)


async def request(request: Request, datasette: Datasette) -> Response:
    """The page for one request."""
    from datasette.utils import tilde_decode
    from datasette.utils.asgi import Response

    database = await _log(request, datasette)
    id_ = tilde_decode(request.url_vars["request"])
    context = await _context(request, datasette, database)
    status = 200
    try:
        found = await asyncio.to_thread(requests.find, Path(database.path), id_)
        energy = await asyncio.to_thread(figures.energy)
        context |= {"asked": found, "energy": energy, "sources": SOURCES}
        if found is None:
            status = 404
            context["error"] = f"no request to tiered has the id {line(id_, 80)}"
    except TieredError as error:
        status = 503
        context["error"] = str(error)
    html = await datasette.render_template("tiered_request.html", context, request=request)
    return Response.html(html, status=status)


async def links(datasette: Datasette, actor: Actor, name: str) -> list[dict[str, str]]:
    """The link to the page, for those who may see it."""
    database = datasette.get_database(name)
    if not await access.is_log(database) or not await access.may_see(datasette, actor, database):
        return []
    return [
        {
            "href": f"{datasette.urls.database(name)}/-/tiered",
            "label": "Requests to tiered",
            "description": "What they cost, what they saved, and how they went.",
        }
    ]


async def canned_queries(datasette: Datasette, name: str) -> dict[str, dict[str, str]]:
    """The queries behind the charts of a database, if it is a log."""
    database = datasette.get_database(name)
    if not await access.is_log(database):
        return {}
    built = await database.execute_fn(queries.build)
    return {query: {"sql": one.sql, "title": one.title} for query, one in built.items()}


async def may_run(datasette: Datasette, actor: Actor, name: str, query: str) -> bool | None:
    """False where a query is ours and may not be run, None where others decide."""
    database = datasette.get_database(name)
    if not query.startswith(queries.PREFIX) or not await access.is_log(database):
        return None
    return None if await access.may_query(datasette, actor, database) else False


async def store_queries(
    datasette: Datasette, database: Database | None = None, *, again: bool = True
) -> None:
    """Store the queries where Datasette 1.0 keeps them, of one database or of all.

    They are not trusted: whoever runs one needs to be allowed to run SQL.
    """
    if not hasattr(datasette, "add_query"):
        return
    for one in [database] if database else list(datasette.databases.values()):
        if await access.is_log(one):
            for name, query in (await one.execute_fn(queries.build)).items():
                if again or await datasette.get_query(one.name, name) is None:
                    await datasette.add_query(one.name, name, query.sql, title=query.title)


async def _log(request: Request, datasette: Datasette) -> Database:
    """The database of the URL. Raises Forbidden, and NotFound where it is no log of llm."""
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
        raise NotFound(f"{database.name} is no log of llm")
    return database


async def _context(request: Request, datasette: Datasette, database: Database) -> dict[str, Any]:
    """What both templates use. `row` gives the address of a row, `page` that of a request."""
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
        "money": numbers.money,
        "dollars": numbers.dollars,
        "unpriced": numbers.unpriced,
        "percent": wording.percent,
        "seconds": wording.seconds,
        "number": wording.number,
    }


def _overview(path: Path, asked: Asked) -> dict[str, Any]:
    loaded = figures.load(path, asked)
    return {
        "figures": loaded,
        "charts": charts.build(loaded),
        "latest": requests.latest(path, loaded.period),
        "rates": {
            name: wording.dollars(rate and Decimal(rate))
            for name in ("month", "year")
            for rate in [loaded.reports["day"][f"saved_per_{name}"]]
        },
        "ever": loaded.total["requests"] or figures.ever(path),
    }


def _arguments(shown: Figures) -> str:
    """What the queries are given, so that they tell of the same requests."""
    since, until = (time and log_database.as_logged(time) for time in shown.period)
    model = shown.reports["day"]["cloud_model"]
    return urlencode({"since": since or "", "until": until or "", "cloud_model": model or ""})
