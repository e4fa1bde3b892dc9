"""Requests that were answered before are answered from the log, at no cost."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys

SMALL, MEDIUM = "mlx/toy-small", "mlx/toy-medium"


def record(response: Any) -> dict[str, Any]:
    """The record of a request."""
    found: dict[str, Any] = response.response_json["tiered"]
    return found


async def test_answered_before(ask: Ask, toys: Toys, logged: Callable[[], list[Any]]) -> None:
    """The second time, the answer is the same, costs no tokens and names the first turn."""
    first = await ask("Hello", complexity=2, cache=True)
    second = await ask("Hello", complexity=2, cache=True)
    assert len(toys.small.prompts) == 1
    turns = logged()
    assert first.text_or_raise() == second.text_or_raise() == "small answer"
    assert record(second)["cached_from"] == turns[0]["id"]
    assert record(first)["cached_from"] is None
    assert (turns[1]["input_tokens"], turns[1]["output_tokens"]) == (0, 0)
    assert turns[1]["resolved_model"] == SMALL
    assert [attempt["outcome"] for attempt in record(second)["attempts"]] == ["ok"]


async def test_an_answer_from_the_cache_is_no_source(
    ask: Ask, toys: Toys, logged: Callable[[], list[Any]]
) -> None:
    """The third time, the first turn is still the one that is named."""
    for _ in range(3):
        last = await ask("Hello", complexity=2, cache=True)
    assert record(last)["cached_from"] == logged()[0]["id"]
    assert len(toys.small.prompts) == 1


async def test_answers_without_the_cache_serve_later(
    ask: Ask, toys: Toys, logged: Callable[[], list[Any]]
) -> None:
    """An answer given while the cache was off is found once it is on."""
    await ask("Hello", complexity=2)
    await ask("Hello", complexity=2)
    assert len(toys.small.prompts) == 2
    last = await ask("Hello", complexity=2, cache=True)
    assert record(last)["cached_from"] == logged()[1]["id"]


@pytest.mark.parametrize(
    "other",
    [
        {"complexity": 6},
        {"complexity": 2, "temperature": 0.5},
        {"complexity": 2, "system": "Be brief"},
        {"complexity": 2, "cache": False},
    ],
)
async def test_another_request(
    ask: Ask, toys: Toys, logged: Callable[[], list[Any]], other: dict[str, Any]
) -> None:
    """Another model, option or system prompt makes a new request."""
    await ask("Hello", complexity=2, cache=True)
    last = await ask("Hello", **({"cache": True} | other))
    assert record(last)["cached_from"] is None
    assert len(logged()) == len(toys.small.prompts) + len(toys.medium.prompts) == 2


@pytest.mark.parametrize(
    ("config", "said", "hit"),
    [
        ({"cache": True}, {}, True),
        ({"cache": False}, {}, False),
        ({"cache": True}, {"cache": False}, False),
        ({"cache": {"temperature_max": 0.3}}, {"temperature": 0.3}, True),
        ({"cache": {"temperature_max": 0.3}}, {"temperature": 0.4}, False),
        ({"cache": {"temperature_max": 0.3}}, {}, False),
        ({"cache": {"temperature_max": 1}}, {}, True),
        ({"cache": {"ttl": "1h"}}, {}, True),
        ({"tasks": {"haiku": {"complexity": 2, "cache": True}}}, {"task": "haiku"}, True),
        (
            {"cache": True, "tasks": {"haiku": {"complexity": 2, "cache": False}}},
            {"task": "haiku"},
            False,
        ),
    ],
)
async def test_config(  # noqa: PLR0913, PLR0917 - fixtures and cases
    ask: Ask,
    toys: Toys,
    logged: Callable[[], list[Any]],
    config: dict[str, Any],
    said: dict[str, Any],
    hit: bool,
) -> None:
    """The request decides whether the cache may answer, else its task, else the config."""
    toys.configure(**config)
    for _ in range(2):
        last = await ask("Hello", **({"complexity": 2} | said))
    assert (record(last)["cached_from"] is not None) == hit
    assert len(logged()) == 2


@pytest.mark.parametrize(("temperature", "hit"), [("0.2", True), ("0.9", False), (None, False)])
async def test_temperature_of_the_tier(
    ask: Ask,
    toys: Toys,
    logged: Callable[[], list[Any]],
    temperature: str | None,
    hit: bool,
) -> None:
    """A tier's temperature counts as the model reads it: as text, or empty."""
    small, *others = toys.keys["tiers"]
    small = small | {"options": {"temperature": temperature}}
    toys.configure(cache={"temperature_max": 0.3}, tiers=[small, *others])
    for _ in range(2):
        last = await ask("Hello", complexity=2)
    assert (record(last)["cached_from"] is not None) == hit
    assert len(logged()) == 2


async def test_too_old(ask: Ask, toys: Toys, logs: Path, logged: Callable[[], list[Any]]) -> None:
    """An answer older than the ttl is not reused."""
    toys.configure(cache={"ttl": "7d"})
    await ask("Hello", complexity=2)
    with closing(sqlite3.connect(logs)) as database, database:
        database.execute("update turns set datetime_utc = '2020-01-01T00:00:00+00:00'")
    last = await ask("Hello", complexity=2)
    assert record(last)["cached_from"] is None
    assert len(logged()) == 2


async def test_earlier_answer_of_a_model_that_is_gone(
    ask: Ask,
    toys: Toys,
    logged: Callable[[], list[Any]],
    httpx_mock: HTTPXMock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An earlier answer of the cloud is reused even without a key."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Say hello", complexity=9, cache=True)
    monkeypatch.delenv("LLM_GEMINI_KEY")
    last = await ask("Say hello", complexity=9, cache=True)
    assert record(last)["cached_from"] == logged()[0]["id"]
    assert len(httpx_mock.get_requests()) == 1


async def test_tier_with_an_alias(
    ask: Ask, toys: Toys, logged: Callable[[], list[Any]], user_path: Path
) -> None:
    """An answer from the log keeps the id of the model that gave it."""
    (user_path / "aliases.json").write_text(json.dumps({"wee": SMALL}))
    tiers = [toys.keys["tiers"][0] | {"model": "wee"}, *toys.keys["tiers"][1:]]
    toys.configure(tiers=tiers, cache=True, local_only=False)
    for _ in range(2):
        await ask("Hello", complexity=2)
    assert {turn["resolved_model"] for turn in logged()} == {logged()[0]["resolved_model"]}


async def test_fallback_is_found_where_it_answered(
    ask: Ask, toys: Toys, logged: Callable[[], list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """A fallback's answer belongs to its own model, and is found when that model's turn comes."""
    toys.medium.does = [ValueError("broken")]
    await ask("Hello", complexity=6, cache=True)
    last = await ask("Hello", complexity=6, cache=True)
    assert [attempt["model"] for attempt in record(last)["attempts"]] == [MEDIUM, SMALL]
    assert record(last)["cached_from"] == logged()[0]["id"]
    assert len(toys.small.prompts) == 1
    starts = [message.partition(". ")[0] for message in caplog.messages]
    assert starts == [f"{SMALL} answers for medium", f"{SMALL} answered this before, for medium"]
