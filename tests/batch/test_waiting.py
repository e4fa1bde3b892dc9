"""A model at its limit: the rows of a batch wait for it together, and not longer than allowed."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml
from llm.parts import StreamEvent

from llm_tiered.batch.limits import limit
from tests import gemini
from tests.batch.echo import CLOUD, MEDIUM, OTHER, Echoes, config
from tests.batch.running import Run, prompts, settle
from tests.cli.batching import batch, parse, write_rows
from tests.stand_in import AsyncStandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from pytest_httpx import HTTPXMock

SLEEP = asyncio.sleep


@dataclass
class Service:
    """Answers a prompt with itself, unless `refuse` has an error for the request with that number.

    Its clock is moved by sleeping alone.
    """

    refuse: Callable[[int], Exception | None] = lambda _: None
    now: float = 1000.0
    slept: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        """Let that time pass."""
        end = self.now + seconds
        if seconds:
            self.slept.append(round(seconds, 3))
        await SLEEP(0)
        self.now = max(self.now, end)

    async def __call__(self, model: str, prompt: str) -> str:
        """Answer or refuse; local models always answer."""
        if model.startswith("mlx/"):
            return prompt
        self.asked.append(round(self.now, 3))
        error = self.refuse(len(self.asked))
        await SLEEP(0)
        if error:
            raise error
        return prompt

    async def batch(self, number: int, wait: float = 600, model: str = "tiered") -> Counter[str]:
        """Run a batch, three requests at the same time. How many rows each model answered."""
        limited = limit(llm.get_async_model(model), 3, None, wait, self.told.append)
        fields = {"complexity": 9} if model == "tiered" else {"complexity": None}
        run = Run(*prompts(number, **fields), model=limited, concurrency=3)
        return Counter(answer.get("model", "failed") for answer in await run())


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, echoes: Echoes, config_file: Path) -> Service:
    """A service that answers everything, behind the cloud tier; smaller tiers may answer for it."""
    monkeypatch.setenv("LLM_GEMINI_KEY", gemini.KEY)
    config_file.write_text(yaml.safe_dump(config(fallback="any")))
    service = Service()
    echoes.act = service
    monkeypatch.setattr("asyncio.sleep", service.sleep)
    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.time", lambda _: service.now)
    return service


def full(seconds: float = 7.2) -> Exception:
    """The refusal of a service that tells how long to wait."""
    return llm.ModelError(f"Quota exceeded. Please retry in {seconds}s.")


@pytest.mark.parametrize("model", ["tiered", CLOUD, OTHER])
async def test_rows_wait_for_their_tier(service: Service, model: str) -> None:
    """Rows that meet the limit and rows that follow wait as long as told, and are answered."""
    end: list[float] = []

    def refuse(number: int) -> Exception | None:
        if number > 10 and not end:
            end.append(service.now + 7.2)
        return full() if end and service.now < end[0] else None

    service.refuse = refuse
    answered = CLOUD if model == "tiered" else model
    assert await service.batch(24, model=model) == {answered: 24}
    assert len(service.asked) <= 24 + 3
    assert service.now - 1000 == pytest.approx(7.2)
    [line] = service.told
    assert line.startswith(f"{answered} is at its limit: waiting 7.2 s, until ")


async def test_one_request_goes_first(service: Service) -> None:
    """After a pause one request finds out whether it is over; the others wait for the result."""
    service.refuse = lambda _: full(10) if service.now < 1040 else None
    assert await service.batch(20) == {CLOUD: 20}
    times = Counter(service.asked)
    assert times[1000] <= 3
    assert [times[time] for time in (1010, 1020, 1030)] == [1, 1, 1]
    assert min(time for time in times if time > 1030) == 1040
    assert len(service.asked) == times[1000] + 3 + 20


async def test_another_failure_passes_the_turn_on(service: Service) -> None:
    """If the first request after a pause fails for a reason of its own, the next one goes."""
    refusals = {1: full(), 2: full(), 3: full(), 4: llm.ModelError("Request is invalid")}
    service.refuse = refusals.get
    assert await service.batch(10) == {CLOUD: 9, MEDIUM: 1}


async def test_one_row_does_not_drag_others_along(service: Service, echoes: Echoes) -> None:
    """A row that the service fails at does not make the other rows fall to other tiers."""

    async def act(model: str, prompt: str) -> str:
        if model == CLOUD and prompt == "5":
            raise llm.ModelError("Internal error encountered.")
        return await service(model, prompt)

    echoes.act = act
    assert await service.batch(24) == {CLOUD: 23, MEDIUM: 1}


async def test_pauses_without_a_time(service: Service) -> None:
    """A service that does not say how long is asked after longer and longer pauses."""
    service.refuse = lambda _: llm.ModelError("overloaded") if service.now < 1140 else None
    assert await service.batch(5) == {CLOUD: 5}
    assert sorted(set(service.asked)) == [1000, 1001, 1005, 1020, 1080, 1140]


async def test_the_longest_wait(service: Service) -> None:
    """At the end of the patience rows fall back as without it, and a line says so."""
    service.refuse = lambda _: full()
    assert await service.batch(20, wait=20) == {MEDIUM: 20}
    assert [line.split(":")[0] for line in service.told] == [f"{CLOUD} is at its limit"] * 2 + [
        f"{CLOUD} is at its limit and asks to wait 7.2 s more, but --wait allows 20 s in all"
    ]
    # A prompt waits a little by itself, as it does outside a batch.
    assert service.now - 1000 < 20 + 9 * 7.2


async def test_an_answer_renews_the_patience(service: Service) -> None:
    """What was waited before an answer does not count against later pauses."""
    service.refuse = lambda number: full() if number % 4 == 0 else None
    assert await service.batch(24, wait=15) == {CLOUD: 24}
    assert service.now - 1000 > 4 * 7.2


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (full(90), 0),
        (full(90), 60),
        (llm.ModelError("Quota exceeded: requests per day. Please retry in 7.2s."), 600),
        (llm.ModelError("API key not valid."), 600),
        (llm.ModelError("Request contains an invalid argument."), 600),
    ],
)
async def test_no_wait(service: Service, error: Exception, wait: float) -> None:
    """Rows fall back at once if waiting is not allowed that long, or does not help."""
    service.refuse = lambda _: error
    assert await service.batch(9, wait=wait) == {MEDIUM: 9}
    assert service.slept == []


async def test_other_models_are_not_held_back(
    service: Service, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of one model does not stop requests to another."""
    over = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await (over.wait() if seconds else SLEEP(0))
        service.now += seconds

    monkeypatch.setattr("asyncio.sleep", sleep)
    tiers = [
        {"name": "one", "complexity": "1-5", "model": OTHER},
        {"name": "two", "complexity": "6-10", "model": CLOUD},
    ]
    config_file.write_text(yaml.safe_dump(config(tiers=tiers)))
    service.refuse = lambda number: full() if number == 1 else None
    model: Any = limit(llm.get_async_model("tiered"), 8, None, 600, service.told.append)
    first = asyncio.ensure_future(model.prompt("a", complexity=2).text())
    while not service.told:
        await SLEEP(0)
    assert await model.prompt("b", complexity=9).text() == "b"
    assert not first.done()
    over.set()
    assert await first == "a"
    assert service.asked == [1000, 1000, 1007.2]


async def test_an_earlier_answer_does_not_end_the_pause(service: Service, echoes: Echoes) -> None:
    """An answer to a request from before the limit says nothing about the limit."""
    slow_answer = asyncio.Event()

    async def act(model: str, prompt: str) -> str:
        if prompt == "slow":
            await slow_answer.wait()
            return prompt
        return await service(model, prompt)

    echoes.act = act
    service.refuse = lambda number: full() if number == 1 else None
    model: Any = limit(llm.get_async_model(CLOUD), 8, None, 600, service.told.append)
    slow = asyncio.ensure_future(model.prompt("slow").text())
    while not echoes.requests:
        await SLEEP(0)
    refused = asyncio.ensure_future(model.prompt("a").text())
    while not service.told:
        await SLEEP(0)
    slow_answer.set()
    assert await slow == "slow"
    assert await model.prompt("b").text() == "b"
    assert await refused == "a"
    assert service.asked == [1000, pytest.approx(1007.2), pytest.approx(1007.2)]


async def test_reasoning_is_not_repeated(service: Service) -> None:
    """A request that meets the limit after its reasoning is made again, and reasons once."""
    attempts: list[str] = []

    def script(prompt: llm.Prompt, response: Any) -> Generator[Any, None, None]:
        attempts.append(prompt.prompt)
        yield StreamEvent(type="reasoning", chunk="Hm.")
        if len(attempts) == 1:
            yield full()
        yield StreamEvent(type="text", chunk="Hello")

    model: Any = limit(AsyncStandIn("cloud/thinker", script), 8, None, 600, service.told.append)
    response = model.prompt("Hi")
    events = [(event.type, event.chunk) async for event in response.astream_events()]
    assert events == [("reasoning", "Hm."), ("text", "Hello")]
    assert (attempts, service.slept) == (["Hi", "Hi"], [7.2])


async def test_answers_are_not_begun_twice(service: Service) -> None:
    """A request that meets the limit in the middle of its answer fails, and later ones wait."""

    def script(prompt: llm.Prompt, response: Any) -> Generator[Any, None, None]:
        yield "Hel"
        if prompt.prompt == "first":
            yield full()
        yield "lo"

    model: Any = limit(AsyncStandIn("cloud/talker", script), 8, None, 600, service.told.append)
    with pytest.raises(llm.ModelError):
        await model.prompt("first")
    assert service.slept == []
    assert await model.prompt("second").text() == "Hello"
    assert service.slept == [7.2]


@pytest.mark.parametrize("name", ["tiered", gemini.MODEL])
async def test_rows_are_asked_again(
    service: Service, config_file: Path, httpx_mock: HTTPXMock, name: str
) -> None:
    """A row whose answer breaks off at the limit is asked again: nobody has seen that answer."""
    tiers = [{"name": "all", "complexity": "1-10", "model": gemini.MODEL}]
    config_file.write_text(yaml.safe_dump(config(tiers=tiers)))
    error: Any = {"error": {"code": 429, "message": "Please retry in 7.2s."}}
    gemini.answer(httpx_mock, gemini.chunk(gemini.text("Half an")), error)
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    limited = limit(llm.get_async_model(name), 3, None, 600, service.told.append)
    [answer] = await Run({"prompt": "Hi"}, model=limited)()
    assert (answer["response"], service.slept) == ("Hello", [7.2])
    assert len(service.told) == 1


async def test_interrupted_while_waiting(echoes: Echoes) -> None:
    """Ctrl-C ends a batch that waits, without an answer for the rows that waited."""

    async def act(model: str, prompt: str) -> str:
        raise full(3600)

    echoes.act = act
    told: list[str] = []
    limited = limit(llm.get_async_model("tiered"), 3, None, 7200, told.append)
    run = Run(*prompts(5, complexity=9), model=limited, concurrency=3)
    done = asyncio.ensure_future(run())
    await settle()
    assert (len(told), len(echoes.requests), done.done()) == (1, 1, False)
    run.batch.interrupt()
    assert await done == []
    assert len(echoes.requests) == 1


@pytest.mark.parametrize(("wait", "answered"), [((), CLOUD), (("--wait", "5s"), MEDIUM)])
def test_command(service: Service, tmp_path: Path, wait: tuple[str, ...], answered: str) -> None:
    """The command waits up to ten minutes unless it is told otherwise, and says until when."""
    service.refuse = lambda _: full(42) if service.now < 1042 else None
    result = batch(write_rows(tmp_path, *prompts(5, complexity=9)), *wait)
    assert {row["model"] for row in parse(result.stdout)} == {answered}
    waiting = [line for line in result.stderr.splitlines() if "is at its limit: waiting" in line]
    assert [line.partition(", until")[0] for line in waiting] == (
        [f"{CLOUD} is at its limit: waiting 42 s"] if answered == CLOUD else []
    )
