"""Generated logs are like those that llm writes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import sqlite_utils
from llm.logs import LogStore

from llm_tiered.costs.money import Comparison
from llm_tiered.costs.savings import savings_report
from tests.make_log import MODELS, VERSIONS, make_log

if TYPE_CHECKING:
    from pathlib import Path

HASHES = {"parent_message_hash", "tip_message_hash"}


def turns(path: Path) -> list[dict[str, Any]]:
    """Return the turns with their parsed response_json."""
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute("select * from turns order by id")]
    for row in rows:
        row["response_json"] = json.loads(row["response_json"] or "{}")
    return rows


def test_messages(tmp_path: Path) -> None:
    """Llm finds the messages of each turn, with the right hashes."""
    make_log(tmp_path / "logs.db", 100, messages=True)
    with closing(sqlite3.connect(tmp_path / "logs.db")) as database:
        store = LogStore(sqlite_utils.Database(database))
        assert store.verify() == []
        for row in turns(tmp_path / "logs.db"):
            chain = store.load_chain(row["tip_message_hash"])
            assert [message.role for message in chain] == ["user", "assistant"]


def test_log_without_messages(tmp_path: Path) -> None:
    """Apart from messages and cache keys, it is the same log."""
    make_log(tmp_path / "without.db", 200)
    make_log(tmp_path / "with.db", 200, messages=True)
    pairs = zip(turns(tmp_path / "without.db"), turns(tmp_path / "with.db"), strict=True)
    for without, with_ in pairs:
        with_["response_json"].get("tiered", {}).pop("key", None)
        for name in HASHES:
            assert without[name] is None
            assert with_[name]
        assert without == with_ | dict.fromkeys(HASHES)


def test_answers_from_the_cache(tmp_path: Path) -> None:
    """A turn that the cache answered has the key and the messages of the one before."""
    make_log(tmp_path / "logs.db", 300, messages=True)
    rows = {row["id"]: row for row in turns(tmp_path / "logs.db")}
    repeated = 0
    for row in rows.values():
        record = row["response_json"].get("tiered", {})
        if record.get("cached_from"):
            earlier = rows[record["cached_from"]]
            assert earlier["response_json"]["tiered"]["key"] == record["key"]
            assert earlier["tip_message_hash"] == row["tip_message_hash"]
            repeated += 1
    assert repeated


def test_turns(tmp_path: Path) -> None:
    """A generated log depends only on its number of turns, and has all that reports use."""
    dumps = []
    for name in ("one.db", "two.db"):
        make_log(tmp_path / name, 300)
        with closing(sqlite3.connect(tmp_path / name)) as database:
            dumps.append(database.execute("select * from turns order by id").fetchall())
    assert dumps[0] == dumps[1]
    assert len(dumps[0]) == 300
    result = savings_report(tmp_path / "one.db", Comparison(MODELS["cloud"]), by="tier")
    assert set(result.groups) == {"small", "medium", "cloud"}
    assert result.total.fallbacks
    assert result.total.cached
    assert VERSIONS[-1] in str(dumps[0])
    assert {other.model for other in result.others} >= {"gpt-4o-mini"}
