"""Datasette in this process, in whichever version is installed."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from datasette import __version__
from datasette.app import Datasette
from jinja2 import BytecodeCache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jinja2.bccache import Bucket

# Datasette 1.0 moved the rules from the metadata to the config.
RULES = "metadata" if __version__.startswith("0.") else "config"


class CompiledTemplates(BytecodeCache):
    """The compiled templates, which every Datasette would otherwise compile again."""

    def __init__(self) -> None:
        self.code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Load the code of a template, if it was compiled before."""
        if bucket.key in self.code:
            bucket.bytecode_from_string(self.code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Store the code of a template."""
        self.code[bucket.key] = bucket.bytecode_to_string()


COMPILED = CompiledTemplates()


class Page(HTMLParser):
    """The content of a page: its status, text, links, and tables by the id of their figure."""

    def __init__(self, status: int, html: str) -> None:
        super().__init__()
        self.status, self.html = status, html
        self.links: dict[str, str] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._figure = ""
        self._in_table = False
        self._link: str | None = None
        self._hidden = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Follow where the parser is."""
        attributes = dict(attrs)
        if tag in ("figure", "section"):
            self._figure = attributes.get("id") or attributes.get("aria-labelledby") or ""
        elif tag == "table":
            self._in_table = True
            self.tables[self._figure] = []
        elif tag == "tr":
            self.tables[self._figure].append([])
        elif tag in ("td", "th"):
            self.tables[self._figure][-1].append("")
        elif tag == "a":
            self._link = attributes.get("href")
            name = attributes.get("aria-label")
            if name and self._link:
                self.links[name] = self._link
        elif tag in ("style", "script"):
            self._hidden += 1

    def handle_endtag(self, tag: str) -> None:
        """Follow where the parser is."""
        if tag in ("style", "script"):
            self._hidden -= 1
        elif tag == "a":
            self._link = None
        elif tag == "table":
            self._in_table = False

    def handle_data(self, data: str) -> None:
        """Collect the text."""
        if self._hidden:
            return
        self.text += data
        if self._in_table and self.tables[self._figure] and self.tables[self._figure][-1]:
            self.tables[self._figure][-1][-1] += data.strip()
        if self._link and data.strip():
            self.links.setdefault(data.strip(), self._link)


class Site:
    """Databases served by Datasette."""

    def __init__(self, datasette: Any) -> None:
        self.datasette = datasette

    async def response(self, path: str, actor: str | None = None) -> Any:
        """Return the response of Datasette, to an actor or to nobody."""
        await self.datasette.invoke_startup()
        signed = self.datasette.sign({"a": {"id": actor}}, "actor")
        cookies = {"ds_actor": signed} if actor else None
        return await self.datasette.client.get(path, cookies=cookies)

    async def page(self, path: str = "/logs/-/tiered", actor: str | None = None) -> Page:
        """Return a page."""
        response = await self.response(path, actor)
        return Page(response.status_code, response.text)

    async def rows(self, path: str) -> Any:
        """Return the rows of a query."""
        joined = "&" if "?" in path else "?"
        response = await self.response(path.replace("?", ".json?") + f"{joined}_shape=array")
        assert response.status_code == 200, response.text
        return response.json()


@contextmanager
def opened(*paths: Path, rules: dict[str, Any] | None = None, **settings: Any) -> Iterator[Site]:
    """Open databases in Datasette. `rules` are the permissions of databases, by name."""
    config = {RULES: {"databases": rules}} if rules else {}
    connections: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remember(*arguments: Any, **options: Any) -> sqlite3.Connection:
        # Datasette does not close its in-memory databases, which Python 3.13 warns about.
        if arguments[:1] == (":memory:",):
            options["check_same_thread"] = False
        connection: sqlite3.Connection = connect(*arguments, **options)
        if options.get("check_same_thread") is False:
            connections.append(connection)
        return connection

    # Without rich, as Datasette would print a coloured traceback of each 404, for half a second.
    with patch("sqlite3.connect", remember), patch("datasette.handle_exception.rich", None):
        datasette = Datasette([str(path) for path in paths], settings=settings, **config)
        _environment(datasette).bytecode_cache = COMPILED
        try:
            yield Site(datasette)
        finally:
            datasette.executor.shutdown()
            _close(datasette)
            for connection in connections:
                connection.close()


def _environment(datasette: Datasette) -> Any:
    return getattr(datasette, "jinja_env", None) or datasette._jinja_env


def _close(datasette: Datasette) -> None:
    if hasattr(datasette, "close"):
        datasette.close()
        return
    for database in datasette.databases.values():
        database.close()
