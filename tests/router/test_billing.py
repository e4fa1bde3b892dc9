"""What requests to the cloud cost is written down while they are made, whichever way they end."""

from __future__ import annotations

import gc
import sqlite3
from contextlib import closing, suppress
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import llm
import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.config.sections import Budget
from llm_tiered.costs import ledger as ledger_module
from llm_tiered.costs.ledger import Entry, Ledger
from llm_tiered.paths import ledger_path
from llm_tiered.router import billing, budget
from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys

FLASH = "gemini/gemini-2.5-flash"
# 100,000 output tokens of FLASH.
QUARTER = Decimal("0.25")
NOW = datetime.now(timezone.utc)

Chunk = dict[str, Any]


@pytest.fixture(autouse=True)
def _cloud(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a model with a known price the only tier, and let warnings come again."""
    toys.configure(tiers=[toys.keys["tiers"][2] | {"model": FLASH, "complexity": "1-10"}])
    monkeypatch.setattr(billing, "_warned", set())
    monkeypatch.setattr(budget, "_warned", set())


def chunk(*parts: Any, tokens: int | None = 100_000, thoughts: int = 0, **fields: Any) -> Chunk:
    """Return an element of the stream that has used so many output tokens so far."""
    element = gemini.chunk(*parts, **fields) | {"modelVersion": "gemini-2.5-flash"}
    usage = {"promptTokenCount": 0, "totalTokenCount": 0, "thoughtsTokenCount": thoughts}
    element["usageMetadata"] = usage | {"candidatesTokenCount": tokens}
    if tokens is None:
        del element["usageMetadata"]
    return element


def entries() -> list[Entry]:
    """Return what is in the ledger."""
    with Ledger(ledger_path()) as ledger:
        return ledger.between(None, None)


def counted() -> Decimal:
    """Return the dollars that count for the budget."""
    with Ledger(ledger_path()) as ledger:
        return ledger.spent(NOW - timedelta(days=1), NOW - timedelta(days=1)).day


WORDS = gemini.text("The first half of")
RESET = httpx.ReadError("Connection reset by peer")

# How an answer ends, each of them after 100,000 tokens: the elements, and the error after them.
ENDS: dict[str, tuple[list[Chunk], Exception | None]] = {
    "whole": ([chunk(WORDS, finishReason="STOP")], None),
    "whole, in pieces": (
        [chunk(WORDS, tokens=5), chunk(gemini.text("it"), finishReason="STOP")],
        None,
    ),
    "only thoughts": (
        [chunk(gemini.thought("Hm"), tokens=0, thoughts=100_000, finishReason="MAX_TOKENS")],
        None,
    ),
    "nothing": ([chunk(finishReason="RECITATION")], None),
    "refused half way": ([chunk(WORDS, tokens=9), chunk(finishReason="SAFETY")], None),
    "no finish reason": ([chunk(WORDS)], None),
    "broken after the first words": ([chunk(WORDS, tokens=9), chunk(gemini.text("x"))], RESET),
    "broken before them": ([chunk(tokens=0, thoughts=100_000)], RESET),
    "an error in the stream": (
        [chunk(WORDS), {"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}],
        None,
    ),
}


@pytest.mark.parametrize("end", ENDS)
async def test_ends_of_an_answer(ask: Ask, httpx_mock: HTTPXMock, end: str) -> None:
    """What the service reported is counted, however the answer ended, and once for each attempt."""
    chunks, error = ENDS[end]
    body = gemini.body(*chunks)
    if error:
        body = body.removesuffix(b"\n]")

    def reply(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=gemini.Stream(body, error))

    httpx_mock.add_callback(reply, url=gemini.URL, is_reusable=True)
    with suppress(llm.ModelError):
        await ask("Tell me", complexity=9)
    sent = len(httpx_mock.get_requests(url=gemini.URL))
    assert counted() == sent * QUARTER
    assert not any(entry.held for entry in entries())


@pytest.mark.parametrize(
    ("failure", "costs"),
    [
        (gemini.BAD_REQUEST, False),
        (gemini.WRONG_KEY, False),
        (gemini.QUOTA, False),
        (gemini.HTML, False),
        (gemini.UNREACHABLE, False),
        (gemini.HUNG_UP, False),
        (gemini.TIMEOUT, True),
    ],
)
async def test_failures_without_an_answer(
    ask: Ask, httpx_mock: HTTPXMock, failure: gemini.Failure, costs: bool
) -> None:
    """Refused requests cost nothing; one that was given up while the service was at it may have."""
    failure.answer_all(httpx_mock)
    with pytest.raises(llm.ModelError):
        await ask("Tell me", complexity=9)
    assert (counted() > 0) is costs
    assert not any(entry.held for entry in entries())


async def test_given_up(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """If the caller stops reading, what was reported until then is counted."""
    gemini.answer(httpx_mock, chunk(WORDS), chunk(gemini.text("it"), finishReason="STOP"))
    response = ask.model.prompt("Tell me", complexity=9)
    if ask.asynchronous:
        stream = response.astream_events()
        await anext(stream)
        await stream.aclose()
    else:
        stream = response.stream_events()
        next(stream)
        stream.close()
    assert counted() == QUARTER


async def test_no_report(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """Without a report, an answer that broke off is estimated by its length, rounded up."""
    long = gemini.text("word " * 10_000)
    first = chunk(WORDS, tokens=None)
    gemini.answer_and_break(httpx_mock, first, chunk(long, tokens=None), error=RESET)
    with pytest.raises(llm.ModelError):
        await ask("Tell me", complexity=9)
    assert Decimal("0.05") < counted() < Decimal("0.10")


async def test_budget_in_a_tool_loop(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, logs: Path
) -> None:
    """A chain is logged at its end, if at all, but a budget holds within it."""
    toys.configure(budget={"day": 1})
    calling = chunk(gemini.call("look", {}, id="c", signature="c2ln"), finishReason="STOP")

    def reply(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=gemini.Stream(gemini.body(calling)))

    httpx_mock.add_callback(reply, url=gemini.URL, is_reusable=True)

    def look() -> str:
        """Look."""
        return "nothing"

    conversation = ask.model.conversation(tools=[look], chain_limit=0)
    chain = conversation.chain("Go", options={"complexity": 9})
    with pytest.raises(llm.ModelError, match=r"\$1\.00 of \$1\.00 spent"):
        await ask.finish(chain)
    assert counted() == 4 * QUARTER
    assert not logs.exists()


async def test_logged_answers_count_once(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, logged: Callable[[], list[Any]]
) -> None:
    """An answer that is in the log too counts once."""
    toys.configure(budget={"day": 1})
    for _ in range(2):
        gemini.answer(httpx_mock, chunk(WORDS, finishReason="STOP"))
        await ask("Tell me", complexity=9)
    assert len(logged()) == 2
    [day] = budget.used(Budget(day=Decimal(1)))
    assert day.spent == 2 * QUARTER
    assert [entry.response_id for entry in entries()] == [turn["id"] for turn in logged()]


@pytest.mark.parametrize("how", [("-n",), ("--no-stream",), ("-R",)])
def test_command_line(toys: Toys, httpx_mock: HTTPXMock, log: Path, how: tuple[str, ...]) -> None:
    """Unlogged answers count like all others."""
    for _ in range(2):
        gemini.answer(httpx_mock, chunk(WORDS, finishReason="STOP"))
        result = CliRunner().invoke(cli, ["-m", "tiered", "-o", "complexity", "9", *how, "Tell me"])
        assert result.exit_code == 0, result.output
    [day] = budget.used(Budget(day=Decimal(1)))
    assert day.spent == 2 * QUARTER


def test_ctrl_c(
    toys: Toys, httpx_mock: HTTPXMock, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of an answer leaves what it had cost."""
    gemini.answer(httpx_mock, chunk(WORDS), chunk(gemini.text("it"), finishReason="STOP"))
    shown = []

    def interrupted(events: Any, **_: Any) -> None:
        shown.append(next(iter(events)))
        raise KeyboardInterrupt

    monkeypatch.setattr("llm.cli.display_stream_events", interrupted)
    result = CliRunner().invoke(cli, ["-m", "tiered", "-o", "complexity", "9", "Tell me"])
    assert (result.exit_code, len(shown)) == (1, 1)
    del result
    gc.collect()
    assert counted() == QUARTER


async def test_a_killed_process(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """What a request is expected to cost counts from before it is sent."""
    toys.configure(budget={"day": 1})
    held: list[Entry] = []

    def reply(_: httpx.Request) -> httpx.Response:
        held.extend(entries())
        return httpx.Response(
            200, stream=gemini.Stream(gemini.body(chunk(WORDS, finishReason="STOP")))
        )

    httpx_mock.add_callback(reply, url=gemini.URL)
    await ask("Tell me", complexity=9)
    [entry] = held
    assert entry.held
    assert Decimal("0.0025") <= (entry.amount or 0) < Decimal("0.003")


async def test_reserved_by_others(ask: Ask, toys: Toys) -> None:
    """What others hold is no longer there to be spent."""
    toys.configure(budget={"day": 1})
    with Ledger(ledger_path()) as ledger:
        ledger.put([Entry("other", 1, NOW, FLASH, Decimal("0.999"), held=True)])
    with pytest.raises(llm.ModelError, match="over budget"):
        await ask("Tell me", complexity=9)


async def test_damaged_ledger(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a budget there is one warning, and the answer; with one the cloud is skipped."""
    ledger_path().write_bytes(b"no database" * 1000)
    for _ in range(2):
        gemini.answer(httpx_mock, chunk(WORDS, finishReason="STOP"))
        await ask("Tell me", complexity=9)
    before, after = caplog.messages
    assert before.startswith("what this costs can't be counted: ")
    assert after.startswith("what this cost can't be counted: ")
    toys.configure(budget={"day": 1})
    with pytest.raises(llm.ModelError, match=r"costs\.db.* can't be used.*delete it"):
        await ask("Tell me", complexity=9)


async def test_unknown_usage(
    ask: Ask, httpx_mock: HTTPXMock, caplog: pytest.LogCaptureFixture
) -> None:
    """A number whose price is unknown is said once; the rest is counted."""
    for _ in range(2):
        odd = chunk(WORDS, finishReason="STOP")
        odd["usageMetadata"]["oddTokenCount"] = 5
        gemini.answer(httpx_mock, odd)
        await ask("Tell me", complexity=9)
    unknown = "no price is known for oddTokenCount"
    assert caplog.messages == [f"{FLASH} is not counted in full: {unknown}"]
    assert counted() == 2 * QUARTER
    assert [entry.complete for entry in entries()] == [False, False]


async def test_unknown_version(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """Where a model without a known price answered, what was asked for is counted."""
    gemini.answer(httpx_mock, chunk(WORDS, finishReason="STOP") | {"modelVersion": "gemini-9"})
    await ask("Tell me", complexity=9)
    [entry] = entries()
    assert (entry.amount, entry.complete) == (QUARTER, False)


async def test_an_answer_that_does_not_fit(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """JSON that does not fit the schema was paid for, and so was what came after a correction."""
    for _ in range(2):
        gemini.answer(httpx_mock, chunk(gemini.text('{"b": 1}'), finishReason="STOP"))
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    with pytest.raises(llm.ModelError):
        await ask("Tell me", complexity=9, schema=schema)
    assert counted() == 2 * QUARTER


def test_cancelled_while_it_is_written() -> None:
    """What was not sent after all is not held."""
    model = llm.get_model(FLASH)
    accounts = billing.Billing("a", Budget())
    accounts.close()
    accounts.hold(model, model.prompt("Hello"))
    assert entries() == []


async def test_odd_reports(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """An answer does not fail because of what its usage says."""
    for odd in ("many", -1, None, [1], {"a": 1}, 0.5):
        last = chunk(WORDS, finishReason="STOP")
        last["usageMetadata"]["cachedContentTokenCount"] = odd
        gemini.answer(httpx_mock, last)
        response = await ask("Tell me", complexity=9)
        assert response.text_or_raise() == "The first half of"
    assert counted() == 6 * QUARTER


@pytest.mark.parametrize(
    ("version", "dollars"), [("gemini-2.5-flash", "0.035"), ("gemini-3-flash-preview", "0.028")]
)
async def test_searches(ask: Ask, httpx_mock: HTTPXMock, version: str, dollars: str) -> None:
    """Google's searches are counted by the query, and by the prompt before Gemini 3."""
    metadata = {"webSearchQueries": ["one", "two"]}
    first = chunk(WORDS, tokens=0, groundingMetadata=metadata) | {"modelVersion": version}
    last = chunk(gemini.text("it"), tokens=0, finishReason="STOP") | {"modelVersion": version}
    gemini.answer(httpx_mock, first, last)
    response = await ask("Tell me", complexity=9)
    assert counted() == Decimal(dollars)
    searches = response.token_details["server_tool_use"]["web_search_requests"]
    assert searches == (1 if version == "gemini-2.5-flash" else 2)


async def test_a_locked_ledger(
    ask: Ask, httpx_mock: HTTPXMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer does not fail because its cost can't be written."""
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.01)
    gemini.answer(httpx_mock, chunk(WORDS, finishReason="STOP"))
    with Ledger(ledger_path()):
        pass
    with closing(sqlite3.connect(ledger_path(), isolation_level=None)) as other:
        other.execute("begin exclusive")
        response = await ask("Tell me", complexity=9)
    assert response.text_or_raise() == "The first half of"
