"""The plugin, with and without Datasette."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from datasette.plugins import get_plugins

from llm_tiered.dashboard import functions
from tests.make_log import empty_log

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT = """
import sys
sys.modules["datasette"] = None
import llm_tiered.dashboard
print(*(name for name in sys.modules if name.startswith("llm_tiered")))
"""


def test_datasette_finds_it() -> None:
    """Datasette loads the plugin from its entry point, with its templates."""
    [plugin] = [plugin for plugin in get_plugins() if plugin["name"] == "llm-tiered"]
    assert plugin["templates_path"].endswith("templates")
    assert "register_routes" in plugin["hooks"]
    [entry] = entry_points(group="datasette", name="tiered")
    assert entry.value == "llm_tiered.dashboard"


def test_import_without_datasette(tmp_path: Path) -> None:
    """Importing the plugin imports neither Datasette nor any other module of the package."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert set(done.stdout.split()) == {"llm_tiered", "llm_tiered.dashboard"}


def has_functions(path: Path) -> bool:
    """Return whether a connection has the SQL functions after it was prepared."""
    with closing(sqlite3.connect(path)) as connection:
        functions.register(connection)
        try:
            connection.execute("select tiered_reason('no key')")
        except sqlite3.DatabaseError:
            return False
        return True


def test_functions_are_for_logs(logs: Path, tmp_path: Path) -> None:
    """The SQL functions are added to a connection with a log, and to no other."""
    empty_log(logs)
    assert has_functions(logs)
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("create table turns (id)")
    assert not has_functions(other)
    (tmp_path / "none.db").write_text("this is not a database, but a text file")
    assert not has_functions(tmp_path / "none.db")
