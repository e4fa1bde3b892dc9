"""The pages on replays: a list of those that are kept, and the report of one."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TieredError
from ..log import replay_words
from ..log.database import parse_time
from ..log.replays import saved_replays
from .pages import context_of, log_of
from .requests import snippets

if TYPE_CHECKING:
    from datasette.app import Datasette
    from datasette.utils.asgi import Request, Response

    from ..log.replays import SavedReplay


async def overview(request: Request, datasette: Datasette) -> Response:
    """Return the page that lists the replays of a log."""
    context, _ = await _context(request, datasette)
    return await _page("tiered_replays.html", context, request, datasette)


async def replay(request: Request, datasette: Datasette) -> Response:
    """Return the page with the report of one replay."""
    context, path = await _context(request, datasette)
    number = int(request.url_vars["number"])
    kept = [each for each in context["replays"] if each.number == number]
    if kept:
        report = kept[0].report
        ids = [example["id"] for move in report["moves"] for example in move["examples"]]
        try:
            context["snippets"] = await asyncio.to_thread(snippets, path, ids)
        except TieredError as error:
            context["snippets"], context["error"] = {}, str(error)
        context |= {"kept": kept[0], "report": report, "notes": list(replay_words.notes(report))}
    elif "error" not in context:
        context["error"] = f"there is no replay {number}; only the latest are kept"
    return await _page("tiered_replay.html", context, request, datasette)


async def _context(request: Request, datasette: Datasette) -> tuple[dict[str, Any], Path]:
    """Return what both templates use, and the path of the log."""
    database = await log_of(request, datasette)
    path = Path(database.path)
    context = context_of(datasette, database) | {
        "replays": [],
        "when": _when,
        "good": replay_words.good,
        "move_name": replay_words.move_name,
        "settings_name": replay_words.settings_name,
    }
    context["replays_here"] = f"{context['here']}-replays"
    try:
        context["replays"] = await asyncio.to_thread(saved_replays, path)
    except (sqlite3.Error, ValueError) as error:
        context["error"] = f"the replays can't be read: {error}"
    return context, path


async def _page(
    template: str, context: dict[str, Any], request: Request, datasette: Datasette
) -> Response:
    from datasette.utils.asgi import Response

    missing = template == "tiered_replay.html" and "report" not in context
    html = await datasette.render_template(template, context, request=request)
    return Response.html(html, status=404 if missing else 503 if "error" in context else 200)


def _when(replay_: SavedReplay) -> str:
    """The local time when a replay was made."""
    return parse_time(replay_.when).astimezone().strftime("%Y-%m-%d %H:%M")
