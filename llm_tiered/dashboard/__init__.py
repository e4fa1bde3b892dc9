"""The Datasette plugin: pages about `tiered` for a database that is llm's log.

Datasette imports this, but may not be installed: its modules are imported inside functions only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

    from datasette.app import Datasette

hookimpl = pluggy.HookimplMarker("datasette")


@hookimpl
def register_routes() -> list[tuple[str, Callable[..., Any]]]:
    """Add the pages for all requests, for one, for all replays, and for one."""
    from . import pages, replays

    return [
        (r"^/(?P<database>[^/]+)/-/tiered$", pages.overview),
        (r"^/(?P<database>[^/]+)/-/tiered/(?P<request>[^/]+)$", pages.request),
        (r"^/(?P<database>[^/]+)/-/tiered-replays$", replays.overview),
        (r"^/(?P<database>[^/]+)/-/tiered-replays/(?P<number>\d{1,15})$", replays.replay),
    ]


@hookimpl
def database_actions(
    datasette: Datasette, actor: dict[str, Any] | None, database: str
) -> Callable[[], Awaitable[list[dict[str, str]]]]:
    """Add a link to the page to the menu of a database that is llm's log."""
    from . import pages

    return lambda: pages.links(datasette, actor, database)


@hookimpl(optionalhook=True)
def canned_queries(
    datasette: Datasette, database: str
) -> Callable[[], Awaitable[dict[str, dict[str, str]]]]:
    """Add the queries behind the charts, with Datasette 0.65."""
    from . import pages

    return lambda: pages.canned_queries(datasette, database)


@hookimpl(optionalhook=True)
def permission_allowed(
    datasette: Datasette, actor: dict[str, Any] | None, action: str, resource: Any
) -> Callable[[], Awaitable[bool | None]] | None:
    """Deny those queries to actors who may not run SQL; Datasette 0.65 would allow them."""
    from . import pages

    if action != "view-query":
        return None
    return lambda: pages.may_run(datasette, actor, *resource)


@hookimpl
def startup(datasette: Datasette) -> Callable[[], Awaitable[None]]:
    """Store the queries behind the charts, with Datasette 1.0."""
    from . import pages

    return lambda: pages.store_queries(datasette)


@hookimpl
def prepare_connection(conn: sqlite3.Connection) -> None:
    """Add the SQL functions that the queries call."""
    from . import functions

    functions.register(conn)
