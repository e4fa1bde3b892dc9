"""The budget for cloud models: counted from the log, checked before each request."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm
import pytest
from ulid import ULID

from llm_tiered.config.sections import Budget
from llm_tiered.costs import prices
from llm_tiered.router import budget
from llm_tiered.router.inner import inner_options
from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys

ROOT = Path(__file__).parents[2]
# A model of llm-gemini that genai-prices knows: 2.50 dollars for a million output tokens.
FLASH = "gemini/gemini-2.5-flash"
A_DOLLAR = 400_000
NOW = datetime.now(timezone.utc)


@pytest.fixture(autouse=True)
def _not_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test be the first to issue the warning."""
    monkeypatch.setattr(budget, "_warned", set())


@pytest.fixture
def spend(logged: Callable[[], list[Any]], logs: Path) -> Callable[..., Decimal]:
    """Log a request with that many output tokens, and return what it cost."""

    def write(tokens: int, *, at: datetime = NOW, model: str = FLASH) -> Decimal:
        row = {
            "id": str(ULID.from_datetime(at)).lower(),
            "thread_id": "a",
            "model": "tiered",
            "resolved_model": model,
            "input_tokens": 0,
            "output_tokens": tokens,
            "datetime_utc": at.isoformat(),
            "response_json": '{"tiered": {"cached_from": null}}',
        }
        names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        with closing(sqlite3.connect(logs)) as database, database:
            database.execute(f"insert into turns ({names}) values ({marks})", row)
        return prices.cost(model, prices.Tokens(0, tokens), at.date()) or Decimal(0)

    return write


def skipped(response: Any) -> str:
    """Why the cloud was skipped."""
    [attempt] = [
        attempt
        for attempt in response.response_json["tiered"]["attempts"]
        if attempt["tier"] == "cloud"
    ]
    assert attempt["outcome"] == "skipped"
    reason: str = attempt["reason"]
    return reason


def cloud(toys: Toys, **limits: Any) -> None:
    """Make a model with a known price the cloud tier, under this budget."""
    tiers = [*toys.keys["tiers"][:2], toys.keys["tiers"][2] | {"model": FLASH}]
    toys.configure(tiers=tiers, budget=limits)


@pytest.mark.parametrize("limit", ["day", "month"])
async def test_over_budget(ask: Ask, toys: Toys, spend: Callable[..., Decimal], limit: str) -> None:
    """Over budget, the cloud is skipped with the numbers, and a local model answers."""
    cloud(toys, **{limit: 1})
    assert spend(A_DOLLAR * 99 // 100) == Decimal("0.99")
    response = await ask("Hello", complexity=9, max_tokens=8000)
    assert response.resolved_model == "mlx/toy-medium"
    assert skipped(response) == (
        f"over budget: $0.99 of $1.00 spent this {limit}, and this may cost $0.020"
    )


async def test_within_budget(
    ask: Ask, toys: Toys, spend: Callable[..., Decimal], httpx_mock: HTTPXMock
) -> None:
    """Whatever is left of the budget may be spent."""
    cloud(toys, day=1, month=10)
    spend(A_DOLLAR * 97 // 100)
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    response = await ask("Hello", complexity=9, max_tokens=8000)
    assert response.resolved_model == FLASH


async def test_warning_at_four_fifths(
    ask: Ask,
    toys: Toys,
    spend: Callable[..., Decimal],
    httpx_mock: HTTPXMock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once 80% of a limit is spent there is a warning, one for each process."""
    cloud(toys, day=1)
    spend(A_DOLLAR * 85 // 100)
    for _ in range(2):
        gemini.answer(httpx_mock, *gemini.says("Hello"))
        await ask("Hello", complexity=9, max_tokens=100)
    assert caplog.messages == ["$0.85 of the budget of $1.00 for today is spent"]


async def test_other_days_are_over(
    ask: Ask, toys: Toys, spend: Callable[..., Decimal], httpx_mock: HTTPXMock
) -> None:
    """Money spent before today does not count for today."""
    cloud(toys, day=1)
    spend(A_DOLLAR * 5, at=NOW - timedelta(days=2))
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    assert (await ask("Hello", complexity=9)).resolved_model == FLASH


async def test_local_models_are_not_asked_for_their_price(ask: Ask, toys: Toys) -> None:
    """A budget of zero leaves the local tiers alone."""
    toys.configure(budget={"day": 0, "month": 0})
    assert (await ask("Hello", complexity=2)).resolved_model == "mlx/toy-small"


@pytest.mark.parametrize("unpriced", ["skip", "allow"])
async def test_unknown_price(  # noqa: PLR0913, PLR0917 - fixtures and cases
    ask: Ask,
    toys: Toys,
    logged: Callable[[], list[Any]],
    httpx_mock: HTTPXMock,
    monkeypatch: pytest.MonkeyPatch,
    unpriced: str,
) -> None:
    """A model without a known price is over budget unless the config allows it."""
    monkeypatch.setattr(prices, "price_list", lambda model, on: None)
    cloud(toys, day=1, unpriced=unpriced)
    if unpriced == "allow":
        gemini.answer(httpx_mock, *gemini.says("Hello"))
        assert (await ask("Hello", complexity=9)).resolved_model == FLASH
    else:
        assert skipped(await ask("Hello", complexity=9)) == (
            f"the price of {FLASH} is unknown, but there is a budget"
        )


async def test_unreadable_log(ask: Ask, toys: Toys, logs: Path) -> None:
    """Nothing is spent while the log can't be read."""
    logs.write_bytes(b"no database" * 1000)
    cloud(toys, day=1)
    assert "can't be read" in skipped(await ask("Hello", complexity=9))


def expected(prompt: llm.Prompt, **options: Any) -> Decimal:
    """The expected cost of a prompt."""
    model = llm.get_model(FLASH)
    cost = budget.expected_cost(FLASH, prompt, model.Options(**options))
    assert cost is not None
    return cost


def test_expected_cost_grows_with_everything(toys: Toys) -> None:
    """A longer prompt, a larger max_tokens and an attachment each raise the expected cost."""
    model = llm.get_model(FLASH)
    short = llm.Prompt("Hello", model=model)
    base = expected(short, max_output_tokens=100)
    picture = llm.Attachment(type="image/png", content=b"x")
    assert expected(llm.Prompt("Hello " * 1000, model=model), max_output_tokens=100) > base
    assert expected(llm.Prompt("Hello", model=model, attachments=[picture])) > expected(short)
    assert expected(short, max_output_tokens=2000) > expected(short) > base


def test_expected_tokens_of_a_prompt(toys: Toys, tmp_path: Path) -> None:
    """Bytes count, not characters; so do tools, a schema, and media by the size of the file."""
    model = llm.get_model(FLASH)
    video, notes = tmp_path / "video.mp4", tmp_path / "notes.txt"
    video.write_bytes(b"\0" * 2_000_000)
    notes.write_bytes(b"x" * 40_000)

    def tokens(**prompt: Any) -> int:
        return sum(budget._tokens(llm.Prompt(**{"prompt": "", "model": model} | prompt)))

    def look(place: str) -> str:
        """Look at a place."""
        return place

    image = llm.Attachment(type="image/png", content=b"x" * 2_000_000)
    missing = llm.Attachment(type="video/mp4", path=str(tmp_path / "missing.mp4"))
    assert tokens(prompt="x" * 4000) - tokens() in range(990, 1040)
    assert tokens(prompt="字" * 4000) - tokens() in range(2900, 3100)
    assert tokens(attachments=[image]) in range(1032, 1100)
    assert tokens(attachments=[missing]) in range(1032, 1100)
    assert tokens(attachments=[llm.Attachment(type="video/mp4", path=str(video))]) >= 10_000
    assert tokens(attachments=[llm.Attachment(type="text/plain", path=str(notes))]) >= 10_000
    assert tokens(tools=[llm.Tool.function(look)]) > tokens() + 10
    assert tokens(schema={"type": "object", "title": "x" * 400}) > tokens() + 100


def test_expected_cost_of_thoughts(toys: Toys) -> None:
    """A small max_tokens leaves room for thoughts, of which the usual number is expected."""
    prompt = llm.Prompt("Hello", model=llm.get_model(FLASH))

    def cost(**requested: Any) -> Decimal | None:
        options = inner_options(llm.get_model(FLASH), {}, requested)
        return budget.expected_cost(FLASH, prompt, options)

    assert cost(max_tokens=50) == cost() == expected(prompt, max_output_tokens=1000)
    assert cost(max_tokens=50, thinking_budget=0) == expected(prompt, max_output_tokens=50)
    assert cost(max_tokens=50, thinking_budget=500) == expected(prompt, max_output_tokens=550)
    assert cost(max_tokens=8000) == expected(prompt, max_output_tokens=8000, thinking_budget=0)


def test_left(spend: Callable[..., Decimal]) -> None:
    """What is left of a limit is never negative."""
    spend(A_DOLLAR * 2)
    day, month = budget.used(Budget(day=Decimal(1), month=Decimal(10)))
    assert (day.name, day.spent, day.left) == ("day", Decimal(2), Decimal(0))
    assert (month.name, month.left) == ("month", Decimal(8))


# Eight processes ask a cloud model that takes ten cents each time, until the budget says no.
SPENDERS = """
from multiprocessing import get_context
import llm
from llm.plugins import pm
from tests.stand_in import StandIn

def answer(prompt, response):
    yield "answer"
    response.set_usage(input=0, output=40_000)

class Plugin:
    @llm.hookimpl
    def register_models(self, register):
        register(StandIn("gemini/gemini-2.5-flash", answer))

def spend(start):
    start.wait()
    for _ in range(4):
        try:
            model.prompt("Hello", tier="cloud", fallback="none", max_tokens=40_000).text()
        except llm.ModelError as error:
            assert "over budget" in str(error), error

pm.register(Plugin())
model = llm.get_model("tiered")
forking = get_context("fork")
start = forking.Barrier(8)
spenders = [forking.Process(target=spend, args=[start]) for _ in range(8)]
for spender in spenders:
    spender.start()
for spender in spenders:
    spender.join()
print([spender.exitcode for spender in spenders])
"""


def test_processes_that_spend_at_once(toys: Toys, logged: Callable[[], list[Any]]) -> None:
    """Eight processes at once do not exceed a budget: each reserves what it may cost."""
    cloud(toys, day=1)
    toys.configure(tiers=[toys.keys["tiers"][2] | {"complexity": "1-10"}])
    command = [sys.executable, "-c", SPENDERS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr.count("Error")) == (f"{[0] * 8}\n", 0), done.stderr
    [day] = budget.used(Budget(day=Decimal(1)))
    assert len(logged()) == day.spent * 10
    assert Decimal("0.8") <= day.spent <= 1
