"""The record of a request: what `tiered` writes is what every reader reads."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from llm_tiered.log import record
from llm_tiered.log.record import (
    Attempt,
    Overruled,
    Record,
    Rollout,
    Switch,
    inner_response,
    json_path,
    sql,
)

RECORD = Record(
    tier="medium",
    complexity=6,
    source="option",
    task="summaries",
    attempts=(
        Attempt("medium", "mlx/a", "failed", "overloaded", 12),
        Attempt("small", "mlx/b", "ok", None, 180),
    ),
    ttft_ms=192,
    cached_from="01abc",
    cache_key="0" * 64,
    escalates=True,
    local_only=True,
    rollout=Rollout("medium", 0.25, included=True),
    rules=("contracts", "rule 2"),
    stuck="3 of the last 6 tool calls failed",
    switch=Switch("cloud", "medium", 1_200, 0.0012, made=False),
    overruled=Overruled("cloud", "nothing may leave this machine"),
)


def test_a_record_reads_as_it_was_written() -> None:
    """Every field survives JSON."""
    assert Record.from_json(json.loads(json.dumps(RECORD.to_json(None)))) == RECORD


def test_names_in_the_log() -> None:
    """The JSON has the names that earlier versions wrote and read."""
    assert RECORD.to_json({"finish_reason": "stop"}) == {
        "tiered": {
            "complexity": 6,
            "source": "option",
            "task": "summaries",
            "tier": "medium",
            "attempts": [
                {
                    "tier": "medium",
                    "model": "mlx/a",
                    "outcome": "failed",
                    "reason": "overloaded",
                    "ms": 12,
                },
                {"tier": "small", "model": "mlx/b", "outcome": "ok", "reason": None, "ms": 180},
            ],
            "ttft_ms": 192,
            "cached_from": "01abc",
            "key": "0" * 64,
            "escalates": True,
            "local_only": True,
            "rollout": {"name": "medium", "share": 0.25, "included": True},
            "rules": ["contracts", "rule 2"],
            "stuck": "3 of the last 6 tool calls failed",
            "switch": {
                "origin": "cloud",
                "target": "medium",
                "tokens": 1_200,
                "dollars": 0.0012,
                "made": False,
            },
            "overruled": {"tier": "cloud", "why": "nothing may leave this machine"},
        },
        "response": {"finish_reason": "stop"},
    }


def test_no_rollout() -> None:
    """Without a rollout the JSON has no such key."""
    assert "rollout" not in replace(RECORD, rollout=None).to_json(None)["tiered"]


@pytest.mark.parametrize("damage", [None, [], {}, "x", 3, [1], {"a": 1}, True])
def test_a_damaged_field_hides_no_other(damage: Any) -> None:
    """If one field is damaged in any way, the others are read."""
    for field in fields(Record):
        written = RECORD.to_json(None)
        name = json_path(field.name).rpartition(".")[2]
        written["tiered"][name] = damage
        record = Record.from_json(written)
        assert record is not None
        others = [other.name for other in fields(Record) if other.name != field.name]
        assert {name: getattr(record, name) for name in others} == {
            name: getattr(RECORD, name) for name in others
        }


@pytest.mark.parametrize("response_json", [None, [], {}, "x", 3, {"tiered": []}, {"tiered": None}])
def test_no_record(response_json: Any) -> None:
    """Anything else, such as another model's response_json, is read as None."""
    assert Record.from_json(response_json) is None


def test_the_last_attempt_that_succeeded_answered() -> None:
    """The last successful attempt gave the answer; without one, the tier is unknown."""
    assert RECORD.answered_by == "small"
    assert replace(RECORD, attempts=RECORD.attempts[:1]).answered_by is None


def test_fallback_reason() -> None:
    """The reason of a fallback is that of the first attempt."""
    assert RECORD.fallback_reason == "overloaded"
    assert Record().fallback_reason is None


def test_the_inner_response() -> None:
    """The inner model's response_json is found with a record and without one."""
    assert inner_response(RECORD.to_json({"a": 1})) == {"a": 1}
    assert inner_response({"a": 1}) == {"a": 1}
    assert inner_response(None) is None


def test_sql_reads_what_was_written() -> None:
    """SQLite reads each field as it was written, and null in a damaged row."""
    written = json.dumps(RECORD.to_json(None))
    with closing(sqlite3.connect(":memory:")) as database:
        for field in ("tier", "complexity", "task", "cached_from", "cache_key", "ttft_ms"):
            query = f"select {sql(field)} from (select ? as response_json)"
            assert database.execute(query, (written,)).fetchone() == (getattr(RECORD, field),)
            assert database.execute(query, ("{broken",)).fetchone() == (None,)
        query = f"select {sql('rollout', 'name')} from (select ? as response_json)"
        assert database.execute(query, (written,)).fetchone() == ("medium",)


def test_only_this_module_knows_the_form() -> None:
    """No other module of the package spells a path or a key of the record."""
    package = Path(record.__file__).parents[1]
    spelling = re.compile(r'\$\.tiered|\["tiered"\]|(?<!aliases\(\))\.get\("tiered"|"tiered" in')
    modules = {path for path in package.rglob("*.py") if spelling.search(path.read_text("utf-8"))}
    assert modules == {Path(record.__file__)}
