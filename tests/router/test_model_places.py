"""`tiered` with a tier on another machine of the user's."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.config.price import ConfigPrice
from llm_tiered.log.record import Record
from llm_tiered.paths import ledger_path
from tests import gemini
from tests.toys import SMALL

if TYPE_CHECKING:
    from pytest_httpx import HTTPXMock

    from tests.router.conftest import OtherPlugin
    from tests.toys import Ask, Toys

TIERS: list[dict[str, Any]] = [
    {"name": "small", "complexity": "1-4", "model": SMALL},
    {"name": "box", "complexity": "5-7", "model": "llama3.2", "place": "own"},
    {"name": "cloud", "complexity": "8-10", "model": gemini.MODEL},
]


@pytest.fixture
def box(toys: Toys, other: OtherPlugin) -> Toys:
    """The tier `box`, which has a price."""
    other.add("llama3.2")
    box = TIERS[1] | {"price": {"input": 0.1, "output": 0.4}}
    toys.configure(tiers=[TIERS[0], box, TIERS[2]], budget={"day": "0.0000001"})
    return toys


def record_of(response: Any) -> Record:
    """What was recorded of an answer."""
    record = Record.from_json(response.response_json)
    assert record
    return record


@pytest.mark.usefixtures("box")
async def test_private(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """What must not leave the user's machines goes to the other one; the log says all that."""
    record = record_of(await ask("A secret", tier="cloud", private=True))
    assert (record.tier, record.place, record.kept) == ("box", "own", "own")
    assert record.price == ConfigPrice(Decimal("0.1"), Decimal("0.4"))
    assert not httpx_mock.get_requests()


@pytest.mark.usefixtures("box")
async def test_local_only(ask: Ask) -> None:
    """What must not leave this machine does not go to the other one."""
    record = record_of(await ask("A secret", tier="box", local_only=True, private=False))
    assert (record.tier, record.place, record.kept) == ("small", "here", "here")


@pytest.mark.usefixtures("box")
async def test_no_budget_for_the_users_machines(ask: Ask) -> None:
    """Answers of the user's machines are not counted, whatever the budget."""
    assert record_of(await ask("Hello", tier="box")).answered_by == "box"
    assert not ledger_path().exists()


@pytest.mark.usefixtures("box")
async def test_a_conversation_stays(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """What had to stay on the user's machines does in later turns, which send it along."""
    model: Any = llm.get_async_model("tiered") if ask.asynchronous else llm.get_model("tiered")
    conversation = model.conversation()
    for said in ({"private": True}, {}, {"tier": "cloud"}):
        response = conversation.prompt("A secret", stream=False, **_options(said))
        if ask.asynchronous:
            await response.text()
        else:
            response.text()
        assert record_of(response).place in {"here", "own"}
        assert record_of(response).kept == "own"
    assert not httpx_mock.get_requests()


def _options(said: dict[str, Any]) -> dict[str, Any]:
    return {"options": said} if said else {}


async def test_a_rented_server(ask: Ask, toys: Toys, other: OtherPlugin) -> None:
    """A cloud model with a price in the config counts, and is skipped when it costs too much."""
    other.add("rented")
    cloud = TIERS[2] | {"model": "rented", "price": {"input": 0, "output": 1000}}
    toys.configure(tiers=[TIERS[0] | {"complexity": "1-7"}, cloud], budget={"day": "0.01"})
    [first, *_] = record_of(await ask("Hello", complexity=9)).attempts
    assert (first.model, first.outcome) == ("rented", "skipped")
    assert str(first.reason).startswith("over budget")
    toys.configure(budget={"day": "5"})
    assert record_of(await ask("Hello", complexity=9)).answered_by == "cloud"


async def test_a_model_in_ollamas_cloud(ask: Ask, toys: Toys, other: OtherPlugin) -> None:
    """Under another name, too, it is not taken for a model on this machine."""
    other.add("gpt-oss:120b-cloud", aliases=("near",))
    toys.configure(tiers=[TIERS[0], TIERS[1] | {"model": "near", "place": "here"}, TIERS[2]])
    [first, *_] = record_of(await ask("Hello", tier="box", local_only=True)).attempts
    assert (first.tier, first.outcome) == ("box", "skipped")
    assert "runs gpt-oss:120b-cloud in its own cloud" in str(first.reason)
