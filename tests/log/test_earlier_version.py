"""A log that an earlier version wrote, with its cache index, is still read to the letter.

`earlier_version/` holds both as SQL. They were written by commit e88ca05, through `tiered` with
models of the tests in place of the local ones. One row is in the table of an older llm.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from shutil import copy
from typing import TYPE_CHECKING

import llm
import pytest

from llm_tiered.cache.index import Index
from llm_tiered.cache.key import cache_key
from llm_tiered.cache.lookup import find
from llm_tiered.costs.ledger import Spent
from llm_tiered.costs.money import Comparison
from llm_tiered.costs.prices import Tokens, cost
from llm_tiered.costs.savings import savings_report
from llm_tiered.costs.spending import read_spent
from llm_tiered.costs.times import Times
from llm_tiered.dashboard.requests import find_request
from llm_tiered.log.answers import LoggedPrompt, latest
from llm_tiered.log.conversation import Past, last_turn
from llm_tiered.log.database import reading
from llm_tiered.log.record import Attempt
from llm_tiered.paths import cache_index_path

if TYPE_CHECKING:
    from llm_tiered.costs.requests import By

SMALL, MEDIUM, CLOUD = "mlx/toy-small", "mlx/toy-medium", "gemini/gemini-flash-latest"
DAY = date(2026, 11, 28)
NOW = datetime(2026, 11, 28, 16, tzinfo=timezone.utc)

# The tokens that the cloud answered with, and what they cost on that day.
CLOUD_TOKENS = Tokens(7, 5)
CLOUD_COST = cost("gemini/gemini-3-flash-preview", CLOUD_TOKENS, DAY) or Decimal(0)

TRIAD, INTERVAL, SPELLING, SCALE, SCALE_AGAIN, ROLLED_OUT, AS_BEFORE, NAME, NAME_AGAIN, TRITONE = (
    "01m8hcv3sm4rab9d8x0g0jmzxp",
    "01m8hcv40cbak24gf379vpezw4",
    "01m8hcv40x0bfx3t21665wygsc",
    "01m8hcv41rbbtymgpn8wvxxtrd",
    "01m8hcv42w7523hnzafh2asv8a",
    "01m8hcv43xwkd059q7h7x71hx5",
    "01m8hcv44c1k4cy7yb201aw30t",
    "01m8hcv44m9q8t5zmh6njvaawh",
    "01m8hcv45206sqj0wfxtkd07vq",
    "01m8hcv45gkr61fcmejtwha97a",
)
CLEF = "01jd4q8z5k0000000000000000"
CONVERSATION = "01m8hcv44m9q8t5zmh6njvaawg"
SCALE_KEY = "8afda202dea3231a8c321a97b78d45ddb00c3292b9729ece85751f6a1cc2bebe"


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the log and the cache index of the earlier version."""
    folder = tmp_path_factory.mktemp("earlier_version")
    for sql in sorted((Path(__file__).parent / "earlier_version").iterdir()):
        with closing(sqlite3.connect(folder / f"{sql.stem}.db")) as database:
            database.execute("pragma synchronous = off")
            database.executescript(sql.read_text("utf-8"))
    return folder


@pytest.fixture
def earlier_log(databases: Path, logs: Path) -> Path:
    """The log of the earlier version, in the place of llm's log."""
    copy(databases / "logs.db", logs)
    return logs


@pytest.fixture
def earlier_index(databases: Path) -> Path:
    """The cache index of the earlier version, in its place."""
    cache_index_path().parent.mkdir()
    copy(databases / "cache.db", cache_index_path())
    return cache_index_path()


def test_answers(earlier_log: Path) -> None:
    """Each turn has the tier that answered, and a note of the check if there was one."""
    with reading(earlier_log) as database:
        answers = {answer.id: answer for answer in latest(database, -1)}
    assert {
        id_: (answer.tier, answer.model, answer.checked) for id_, answer in answers.items()
    } == {
        TRIAD: ("small", SMALL, False),
        INTERVAL: ("small", SMALL, False),
        SPELLING: ("cloud", CLOUD, False),
        SCALE: ("medium", MEDIUM, False),
        SCALE_AGAIN: ("medium", MEDIUM, False),
        ROLLED_OUT: ("small", SMALL, False),
        AS_BEFORE: ("medium", MEDIUM, False),
        NAME: ("small", SMALL, False),
        NAME_AGAIN: ("small", SMALL, False),
        TRITONE: ("medium", MEDIUM, True),
    }
    assert answers[INTERVAL].attempts == (
        Attempt("medium", MEDIUM, "failed", "RuntimeError: out of memory", 0),
        Attempt("small", SMALL, "ok", None, 0),
    )
    assert answers[TRITONE].attempts == (
        Attempt("small", SMALL, "failed", "escalated: the answer is a refusal", 8),
        Attempt("medium", MEDIUM, "ok", None, 0),
    )


def test_prompts(earlier_log: Path) -> None:
    """The prompts are complete, with fragments and the length of the conversation."""
    with reading(earlier_log) as database:
        prompts = {answer.id: answer.prompt for answer in latest(database, -1)}
    whole = "A chord is made of notes.\nWhat is a triad?"
    system, first, answer, second = (
        "Be brief.",
        "My name is Ada.",
        "small answer",
        "What is my name?",
    )
    assert prompts[TRIAD] == LoggedPrompt(whole, len(system + whole), 0, 0, schema=False)
    assert prompts[NAME_AGAIN] == LoggedPrompt(
        second, len(first + answer + second), 0, 0, schema=False
    )


def test_conversation(earlier_log: Path) -> None:
    """A conversation that had to stay on this machine still has to."""
    messages = [llm.user("What is my name?"), llm.assistant("small answer")]
    model = llm.get_model("tiered")
    conversation = llm.Conversation(model=model, id=CONVERSATION, loaded_messages=messages)
    assert last_turn(conversation) == Past("small", 2, "option", kept="here")


def test_savings(earlier_log: Path) -> None:
    """The report has every request, including the one in the table of an older llm."""
    report = savings_report(earlier_log, Comparison("gemini/gemini-3-flash-preview"), now=NOW)
    total = report.total
    assert (total.requests, total.local, total.cloud, total.cached) == (11, 9, 1, 1)
    assert (total.input_tokens, total.output_tokens, total.uncounted) == (87, 31, 0)
    assert dict(total.fallbacks) == {
        "RuntimeError: out of memory": 1,
        "escalated: the answer is a refusal": 1,
    }
    assert total.spent.dollars == CLOUD_COST > 0
    durations = [0, 0, 0, 0, 1, 2, 2, 8, 11, 101, 250]
    first_outputs = [0, 0, 0, 1, 1, 2, 3, 3, 8, 11, 89]
    assert total.latency == Times.of(durations).percentiles
    assert total.first_output == Times.of(first_outputs).percentiles
    assert (report.unreadable, report.future, report.others) == (0, 0, [])
    assert report.start == datetime(2025, 11, 20, 12, tzinfo=timezone.utc)


def test_groups(earlier_log: Path) -> None:
    """Requests are grouped by what the earlier version recorded."""
    groupings: dict[By, dict[str | None, int]] = {
        "tier": {"small": 6, "medium": 4, "cloud": 1},
        "task": {None: 9, "theory_analysis": 2},
        "model": {SMALL: 6, MEDIUM: 4, CLOUD: 1},
        "rollout": {None: 9, "small, rolled out": 1, "small, as before": 1},
    }
    for by, expected in groupings.items():
        groups = savings_report(earlier_log, Comparison(), by=by, now=NOW).groups
        assert {key: tally.requests for key, tally in groups.items()} == expected, by


def test_what_the_cache_saved(earlier_log: Path) -> None:
    """An answer from the cache counts with the tokens of the answer that it repeated."""
    model = "gemini/gemini-2.5-flash"
    report = savings_report(earlier_log, Comparison(model), by="task", now=NOW)
    each = cost(model, Tokens(5, 2), DAY)
    assert each
    assert report.groups["theory_analysis"].saved.dollars == 2 * each


def test_budget(earlier_log: Path) -> None:
    """What the earlier version spent counts towards today's budget."""
    day = datetime(2026, 11, 28, tzinfo=timezone.utc)
    spent = read_spent(earlier_log, day=day, month=day.replace(day=1))
    assert spent == Spent(CLOUD_COST, CLOUD_COST)


def test_cached_answer(earlier_log: Path, earlier_index: Path) -> None:
    """The same request still has the same key, and the earlier index leads to its answer."""
    with Index(earlier_index) as index:
        assert index.position() == (4, SCALE)
        assert index.turns(SCALE_KEY) == [SCALE]
    prompt = llm.get_model("tiered").prompt("What is a scale?").prompt
    assert cache_key(prompt, MEDIUM, {}) == SCALE_KEY
    answer = find(SCALE_KEY)
    assert answer
    assert (answer.turn_id, answer.model, answer.response_json) == (SCALE, MEDIUM, None)
    assert "".join(event.chunk for event in answer.events) == "medium answer"
    with Index(earlier_index) as index:
        assert index.position() == (10, TRITONE)


def test_one_request(earlier_log: Path) -> None:
    """The page of a request shows its prompt and answer, from either of llm's tables."""
    texts = {TRIAD: ["Be brief.", "A chord is made of notes.\nWhat is a triad?", "small answer"]}
    texts |= {CLEF: ["What is a clef?", "A sign."]}
    for id_, expected in texts.items():
        request = find_request(earlier_log, id_)
        assert request
        messages = [*request.messages, *request.answer]
        assert [part.text for message in messages for part in message.parts] == expected
