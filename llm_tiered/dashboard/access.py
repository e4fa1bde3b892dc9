"""Which databases are llm's log, and who may see them, with Datasette 0.65 and 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..log.database import TABLES
from .requests import SHOWN_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasette.app import Datasette
    from datasette.database import Database

Actor = dict[str, Any] | None

# The table in which llm records its migrations.
MIGRATIONS = "_llm_migrations"


async def is_log(database: Database) -> bool:
    """Return whether llm logs into this database."""
    if not database.path or database.is_memory:
        return False
    tables = set(await database.table_names())
    return MIGRATIONS in tables and not tables.isdisjoint(TABLES)


async def may_see(datasette: Datasette, actor: Actor, database: Database) -> bool:
    """Return whether the actor may see this database, and all of its tables that the pages show."""
    tables = [table for table in await database.table_names() if table in SHOWN_TABLES]
    return await _allowed(datasette, actor, "view-database", database.name) and await _all_allowed(
        datasette, actor, database.name, tables
    )


async def may_query(datasette: Datasette, actor: Actor, database: Database) -> bool:
    """Return whether the actor may also run SQL on this database."""
    return await may_see(datasette, actor, database) and await _allowed(
        datasette, actor, "execute-sql", database.name
    )


async def _all_allowed(
    datasette: Datasette, actor: Actor, database: str, tables: Iterable[str]
) -> bool:
    for table in tables:
        if not await _allowed(datasette, actor, "view-table", database, table):
            return False
    return True


async def _allowed(
    datasette: Datasette, actor: Actor, action: str, database: str, table: str | None = None
) -> bool:
    if hasattr(datasette, "allowed"):
        from datasette import resources

        resource = (
            resources.TableResource(database, table)
            if table
            else resources.DatabaseResource(database)
        )
        allowed: bool = await datasette.allowed(action=action, resource=resource, actor=actor)
        return allowed
    if action == "execute-sql":
        may_run: bool = await datasette.permission_allowed(actor, action, database, default=True)
        return may_run
    # The rules of the table come first, then those of its database and of the instance.
    rules: list[Any] = [("view-database", database), "view-instance"]
    if table:
        rules.insert(0, (action, (database, table)))
    visible, _ = await datasette.check_visibility(actor, permissions=rules)
    return bool(visible)
