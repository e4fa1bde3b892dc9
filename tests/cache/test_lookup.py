"""An earlier answer is found in a log that llm wrote, and is repeated exactly."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import llm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm.parts import StreamEvent

from llm_tiered.cache.lookup import find
from llm_tiered.log import database as log_database
from tests.cache.replies import INNER, change, key_of, reply, replying, warned
from tests.make_log import add, empty_log, gemini_response, make_log, turn

if TYPE_CHECKING:
    from pathlib import Path

LONG = "A text that is longer than one event of a stream: much longer than that. " * 5


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log that all examples of a test share."""
    folder = tmp_path_factory.mktemp("shared")
    empty_log(folder / "logs.db")
    return folder


def test_an_answer_is_found(log: Path) -> None:
    """The answer has its turn, its model, its time and what the model recorded."""
    response = reply(log, "small ", "answer", inner={"finish_reason": "stop", "prompt_tps": 3.5})
    answer = find(key_of(response))
    assert answer
    assert (answer.turn_id, answer.model) == (response.id, INNER)
    assert answer.response_json == {"finish_reason": "stop", "prompt_tps": 3.5}
    assert answer.time
    assert answer.time.isoformat() == response.datetime_utc()
    assert "".join(event.chunk for event in answer.events) == "small answer"


@pytest.mark.parametrize(
    "output",
    [
        ["answer"],
        [LONG],
        [StreamEvent("reasoning", LONG), StreamEvent("text", LONG)],
        [StreamEvent("text", "answer"), StreamEvent("reasoning", "", redacted=True)],
        [StreamEvent("reasoning", "", provider_metadata={"signature": "a"}), "answer"],
        ["answer", StreamEvent("text", "", provider_metadata={"gemini": {"sources": [1, 0.5]}})],
        [StreamEvent("text", "one", part_index=0), StreamEvent("text", "two", part_index=1)],
        ["one", StreamEvent("reasoning", "hm"), "two"],
    ],
    ids=["text", "long", "reasoning", "redacted", "signed", "grounded", "parts", "between"],
)
def test_the_same_parts(log: Path, output: list[str | StreamEvent]) -> None:
    """A model that yields the events gives exactly the answer of the first time."""
    response = reply(log, *output)
    answer = find(key_of(response))
    assert answer
    again = replying(*answer.events).prompt("Hello")
    assert again.text() == response.text()
    assert again.messages() == response.messages()


@settings(max_examples=15, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=300).filter(str.strip))
def test_any_text(shared: Path, text: str) -> None:
    """Any text is repeated exactly."""
    response = reply(shared / "logs.db", text, prompt=text)
    answer = find(
        key_of(response), log_path=shared / "logs.db", index_path=shared / "tiered" / "cache.db"
    )
    assert answer
    assert "".join(event.chunk for event in answer.events) == text


def test_a_long_text_is_streamed(log: Path) -> None:
    """A long answer is streamed in pieces."""
    answer = find(key_of(reply(log, LONG)))
    assert answer
    assert len(answer.events) > 3


def test_another_request(log: Path) -> None:
    """A request that was not made before has no answer."""
    key = key_of(reply(log, "answer"))
    assert find("0" * 64) is None
    assert find(key)


def test_newest(log: Path) -> None:
    """Of several answers to a request the newest is found."""
    for words in ("one", "two", "three"):
        last = reply(log, words)
    answer = find(key_of(last))
    assert answer
    assert answer.turn_id == last.id


def test_newer_than(log: Path) -> None:
    """An answer that is too old is not found, but stays in the index."""
    response = reply(log, "answer")
    time = log_database.parse_time(response.datetime_utc())
    key = key_of(response)
    assert find(key, newer_than=time)
    assert find(key, newer_than=time + timedelta(microseconds=1)) is None
    assert find(key)
    zone = timezone(timedelta(hours=5))
    assert find(key, newer_than=time.astimezone(zone))


def test_unknown_time(log: Path) -> None:
    """An answer whose time is unknown is found only if any age will do."""
    key = key_of(reply(log, "answer"))
    change(log, "update turns set datetime_utc = 'yesterday'")
    assert find(key, newer_than=datetime(2020, 1, 1, tzinfo=timezone.utc)) is None
    assert find(key)


COMPLETE = [
    {},
    {"finish_reason": "stop"},
    gemini_response("gemini-3-flash-preview"),
    {"choices": [{"finish_reason": "stop"}]},
    {"stop_reason": "end_turn"},
    {"content": "x", "other": 1},
]
INCOMPLETE: list[dict[str, Any]] = [
    {"finish_reason": "length"},
    {"candidates": [{"finishReason": "MAX_TOKENS"}]},
    {"candidates": [{"finishReason": "SAFETY"}], "promptFeedback": {}},
    {"candidates": [{"index": 0}]},
    {"candidates": []},
    {"candidates": "none"},
    {"candidates": [7]},
    {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
    {"choices": [{"finish_reason": "content_filter"}]},
    {"stop_reason": "max_tokens"},
    {"status": "incomplete"},
]


@pytest.mark.parametrize("inner", COMPLETE, ids=json.dumps)
def test_complete_answers(log: Path, inner: dict[str, Any]) -> None:
    """An answer is found if the model reported its natural end, or nothing about it."""
    answer = find(key_of(reply(log, "answer", inner=inner)))
    assert answer
    assert answer.response_json == inner


@pytest.mark.parametrize("inner", INCOMPLETE, ids=json.dumps)
def test_incomplete_answers(log: Path, inner: dict[str, Any]) -> None:
    """An answer that was cut off or blocked is passed over for an older complete one."""
    complete = reply(log, "answer")
    assert key_of(reply(log, "ans", inner=inner)) == key_of(complete)
    answer = find(key_of(complete))
    assert answer
    assert answer.turn_id == complete.id


@pytest.mark.parametrize(
    "output",
    [
        [llm.ToolCall("weather", {})],
        ["Let's see.", llm.ToolCall("weather", {})],
        [StreamEvent("tool_call_name", "search", server_executed=True), "answer"],
        [StreamEvent("tool_result", "{}", server_executed=True, tool_name="search"), "answer"],
        [],
        [" \n"],
        [StreamEvent("reasoning", "Hmm.")],
    ],
    ids=[
        "call",
        "text and call",
        "server's call",
        "server's result",
        "empty",
        "blank",
        "reasoning",
    ],
)
def test_unrepeatable_answers(log: Path, output: list[Any]) -> None:
    """Answers with tool calls, or without text, are not repeated."""
    assert find(key_of(reply(log, *output))) is None


def test_original(log: Path) -> None:
    """An answer from the cache is not repeated, but the one that it came from is."""
    first = reply(log, "answer")
    again = reply(log, "answer", record={"cached_from": first.id})
    answer = find(key_of(again))
    assert answer
    assert answer.turn_id == first.id
    change(log, "delete from turns where id = ?", first.id)
    assert find(key_of(again)) is None


def test_other_models(log: Path) -> None:
    """A turn of another model is not an answer of `tiered`, whatever it recorded."""
    response = reply(log, "answer")
    change(log, "update turns set model = 'other'")
    assert find(key_of(response)) is None


def test_condensed_json(log: Path) -> None:
    """What llm stores only once is restored: sources, schema, descriptions of tools."""
    grounding = {"chunks": [{"title": LONG, "score": 0.5}]}
    schema = {"type": "object", "properties": {"name": {"type": "string", "title": LONG}}}
    inner = {
        "candidates": [{"finishReason": "STOP", "grounding": grounding}],
        "schema": schema,
        "tools": [LONG],
        "text": f"{LONG}!",
        "odd": {"$": "0.0.text"},
    }
    event = StreamEvent("text", LONG, provider_metadata={"gemini": grounding})
    response = reply(
        log, event, inner=inner, schema=schema, tools=[llm.Tool("weather", description=LONG)]
    )
    with closing(sqlite3.connect(log)) as database:
        (stored,) = database.execute("select response_json from turns").fetchone()
    assert LONG not in stored
    answer = find(key_of(response))
    assert answer
    assert answer.response_json == inner


def test_in_a_conversation(log: Path) -> None:
    """The answer of a later turn holds only that turn's messages."""
    conversation = replying().conversation()
    for words in ("one", "two", "three"):
        last = reply(log, words, prompt=f"Say {words}", to=conversation)
    answer = find(key_of(last))
    assert answer
    assert [event.chunk for event in answer.events] == ["three"]


def test_a_deleted_turn(log: Path) -> None:
    """A deleted turn gives no answer, even if there are later turns."""
    response = reply(log, "answer")
    other = reply(log, "answer", prompt="Bye")
    assert find(key_of(response))
    change(log, "delete from turns where id = ?", response.id)
    assert find(key_of(response)) is None
    assert find(key_of(other))


DAMAGE = {
    "other text": "update parts set text = 'something else' where text = 'answer'",
    "no text": "update parts set text = null where text = 'answer'",
    "bytes": "update parts set text = cast(x'ff00fe' as text) where text = 'answer'",
    "no part": "delete from parts where text = 'answer'",
    "other part": "update parts set type = 'cats' where text = 'answer'",
    "payload": "update parts set payload = '[1]' where text = 'answer'",
    "no message": "delete from messages where role = 'assistant'",
    "other role": "update messages set role = 'user' where role = 'assistant'",
    "no tip": "update turns set tip_message_hash = null",
    "other tip": "update turns set tip_message_hash = parent_message_hash",
    "other parent": "update turns set parent_message_hash = 'x'",
    "no JSON": "update turns set response_json = substr(response_json, 2)",
    "no record": "update turns set response_json = null",
    "other record": "update turns set response_json = '[[]]'",
    "reference": "update turns set response_json = replace(response_json, 'null}', '{\"$\": 7}}')",
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE)
def test_damaged_rows(
    tmp_path: Path,
    statement: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A damaged turn gives no answer, whether it was indexed before or not; other turns do."""
    for indexed in (False, True):
        folder = tmp_path / f"indexed={indexed}"
        folder.mkdir()
        monkeypatch.setenv("LLM_USER_PATH", str(folder))
        log = folder / "logs.db"
        empty_log(log)
        other = reply(log, "other answer", prompt="Bye")
        response = reply(log, "answer")
        if indexed:
            assert find(key_of(response))
        change(log, f"{statement}{' and' if 'where' in statement else ' where'} 1 = 1")
        assert find(key_of(response)) is None, folder.name
        if "turns" not in statement and "messages" not in statement:
            assert find(key_of(other)), folder.name
    assert warned(caplog) == []


def test_minimal_record(log: Path) -> None:
    """A record with nothing but the key is enough to repeat the answer."""
    key = key_of(reply(log, "answer"))
    change(log, "update turns set response_json = ?", json.dumps({"tiered": {"key": key}}))
    answer = find(key)
    assert answer
    assert answer.response_json is None


@pytest.mark.parametrize("key", [None, 7, "x", "0" * 63, "Z" * 64, ["0" * 64], "<b>"])
def test_invalid_keys(log: Path, key: Any) -> None:
    """A record with an invalid key is passed over."""
    other = reply(log, "other answer", prompt="Bye")
    reply(log, "answer", record={"key": key})
    assert find(key_of(other))


def test_no_log(logs: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a log there is no answer, and neither a log nor an index is created."""
    assert find("0" * 64) is None
    assert not list(logs.parent.iterdir())
    assert warned(caplog) == []


def test_a_log_of_an_older_llm(logs: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A log without the tables or columns gives no answer."""
    with closing(sqlite3.connect(logs)) as database:
        database.execute("create table responses (id text, model text)")
        assert find("0" * 64) is None
        database.execute("create table turns (id text primary key, model text)")
        assert find("0" * 64) is None
    assert warned(caplog) == []


def test_an_empty_log(log: Path) -> None:
    """A log without turns gives no answer."""
    assert find("0" * 64) is None


def test_older_turns(logs: Path) -> None:
    """Turns from before there was a cache are passed over."""
    make_log(logs, 200)
    response = reply(logs, "answer")
    assert find(key_of(response))


@pytest.mark.parametrize("content", [b"text, not a database" * 50, b"SQLite format 3\x00"])
def test_not_a_log(logs: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is not a database is one warning."""
    logs.write_bytes(content)
    assert find("0" * 64) is None
    (warning,) = warned(caplog)
    assert warning.startswith(f"answering without the cache: {logs} can't be read")


def test_a_locked_log(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A log that another process keeps locked is one warning, after a wait."""
    key = key_of(reply(log, "answer"))
    monkeypatch.setattr(log_database, "PATIENCE", 0.05)
    with closing(sqlite3.connect(log, isolation_level=None)) as other:
        other.execute("begin exclusive")
        assert find(key) is None
    assert len(warned(caplog)) == 1
    assert find(key)


def test_a_log_in_write_ahead_mode(log: Path) -> None:
    """A log in write-ahead mode is read while another process has it open."""
    with closing(sqlite3.connect(log)) as other:
        other.execute("pragma journal_mode = wal")
        assert find(key_of(reply(log, "answer")))


def test_the_log_is_only_read(log: Path) -> None:
    """Nothing is written to the log, and only the index is left beside it."""
    key = key_of(reply(log, "answer"))
    log.chmod(0o444)
    before = log.read_bytes(), log.stat().st_mtime_ns
    assert find(key)
    assert (log.read_bytes(), log.stat().st_mtime_ns) == before
    names = {path.name for path in log.parent.rglob("*")}
    assert names == {"logs.db", "tiered", "cache.db"}


def test_a_turn_without_a_message(log: Path) -> None:
    """A turn without messages gives no answer."""
    record = {"tiered": {"key": "0" * 64}, "response": None}
    add(log, [turn() | {"response_json": json.dumps(record)}])
    assert find("0" * 64) is None
