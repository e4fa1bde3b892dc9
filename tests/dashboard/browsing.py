"""Datasette as the tests of the pages use it: in this process, whichever version is installed."""

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

# Datasette 1.0 took the settings out of the metadata.
RULES = "metadata" if __version__.startswith("0.") else "config"


class Compiled(BytecodeCache):
    """The templates as code, of which each Datasette would compile its own."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give the code of a template, if it is there."""
        if bucket.key in self.kept:
            bucket.bytecode_from_string(self.kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the code of a template."""
        self.kept[bucket.key] = bucket.bytecode_to_string()


COMPILED = Compiled()


class Page(HTMLParser):
    """What stands on a page: its status, its text, its links, its tables by the figure's id."""

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
        """Note where the parser is."""
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
        """Note where the parser is."""
        if tag in ("style", "script"):
            self._hidden -= 1
        elif tag == "a":
            self._link = None
        elif tag == "table":
            self._in_table = False

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        if self._hidden:
            return
        self.text += data
        if self._in_table and self.tables[self._figure] and self.tables[self._figure][-1]:
            self.tables[self._figure][-1][-1] += data.strip()
        if self._link and data.strip():
            self.links.setdefault(data.strip(), self._link)


class Site:
    """Databases in Datasette."""

    def __init__(self, datasette: Any) -> None:
        self.datasette = datasette

    async def response(self, path: str, actor: str | None = None) -> Any:
        """Give what Datasette answers, to nobody or to an actor."""
        await self.datasette.invoke_startup()
        signed = self.datasette.sign({"a": {"id": actor}}, "actor")
        cookies = {"ds_actor": signed} if actor else None
        return await self.datasette.client.get(path, cookies=cookies)

    async def page(self, path: str = "/logs/-/tiered", actor: str | None = None) -> Page:
        """Give a page."""
        response = await self.response(path, actor)
        return Page(response.status_code, response.text)

    async def rows(self, path: str) -> Any:
        """Give the rows of a query, as JSON."""
        joined = "&" if "?" in path else "?"
        response = await self.response(path.replace("?", ".json?") + f"{joined}_shape=array")
        assert response.status_code == 200, response.text
        return response.json()


@contextmanager
def opened(*paths: Path, rules: dict[str, Any] | None = None, **settings: Any) -> Iterator[Site]:
    """Open databases in Datasette. `rules` are those for the databases, by their names."""
    given = {RULES: {"databases": rules}} if rules else {}
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remember(*arguments: Any, **said: Any) -> sqlite3.Connection:
        # Datasette leaves its databases in memory open, and Python 3.13 minds.
        if arguments[:1] == (":memory:",):
            said["check_same_thread"] = False
        connection: sqlite3.Connection = connect(*arguments, **said)
        if said.get("check_same_thread") is False:
            made.append(connection)
        return connection

    # Datasette would print each page that is not found as a traceback in colour: half a second.
    with patch("sqlite3.connect", remember), patch("datasette.handle_exception.rich", None):
        datasette = Datasette([str(path) for path in paths], settings=settings, **given)
        _environment(datasette).bytecode_cache = COMPILED
        try:
            yield Site(datasette)
        finally:
            datasette.executor.shutdown()
            _close(datasette)
            for connection in made:
                connection.close()


def _environment(datasette: Datasette) -> Any:
    return getattr(datasette, "jinja_env", None) or datasette._jinja_env


def _close(datasette: Datasette) -> None:
    if hasattr(datasette, "close"):
        datasette.close()
        return
    for database in datasette.databases.values():
        database.close()
