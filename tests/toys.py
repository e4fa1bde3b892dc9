"""Toy models in place of the local tiers, and `tiered` asked either way. A pytest plugin."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml
from llm.plugins import pm

from tests import gemini
from tests.make_log import empty_log as write_empty_log
from tests.stand_in import AsyncStandIn, StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from llm.parts import StreamEvent

    from tests.stand_in import Action

SMALL, MEDIUM = "mlx/toy-small", "mlx/toy-medium"

TIERS = [
    {"name": "small", "complexity": "1-4", "model": SMALL},
    {"name": "medium", "complexity": "5-7", "model": MEDIUM},
    {"name": "cloud", "complexity": "8-10", "model": gemini.MODEL},
]


@dataclass
class Toy:
    """What a toy does when it is asked, one action after the other, and what it was asked.

    It puts out text and events, makes tool calls, raises errors and calls functions. `then` is
    what it does from the second time on, if that is something else.
    """

    does: list[Action]
    then: list[Action] | None = None
    tools: bool = False
    schemas: bool = False
    has_async: bool = True
    prompts: list[llm.Prompt] = field(default_factory=list)

    def script(self, prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        """What the model does."""
        again = bool(self.prompts)
        self.prompts.append(prompt)
        yield from self.then if again and self.then is not None else self.does
        response.set_usage(input=5, output=2)

    def models(self, model_id: str) -> tuple[StandIn, AsyncStandIn | None]:
        """The sync and the async model of that id, which run on this machine."""
        features: dict[str, Any] = {
            "runs_here": True,
            "supports_tools": self.tools,
            "supports_schema": self.schemas,
        }
        return (
            StandIn(model_id, self.script, **features),
            AsyncStandIn(model_id, self.script, **features) if self.has_async else None,
        )


class Toys:
    """The plugin: two toys, and the config that makes them the local tiers below Gemini."""

    __name__ = "toys"

    def __init__(self, config_file: Path) -> None:
        self.config_file = config_file
        self.small = Toy(["small ", "answer"])
        self.medium = Toy(["medium ", "answer"])
        self.delays: list[float] = []
        """The seconds that `tiered` waited before retries."""
        self.keys: dict[str, Any] = {"tiers": TIERS, "log_api": False}
        self.configure()

    def configure(self, **keys: Any) -> None:
        """Write the config with these keys added, or in place of those it has."""
        self.keys |= keys
        self.config_file.write_text(yaml.safe_dump(self.keys))

    def configure_cloud(self, **options: Any) -> None:
        """Write the config with these options of the cloud tier."""
        self.configure(tiers=[*TIERS[:2], TIERS[2] | {"options": options}])

    @llm.hookimpl
    def register_models(self, register: Callable[..., None]) -> None:
        """Register the toys with llm."""
        register(*self.small.models(SMALL))
        register(*self.medium.models(MEDIUM))


@pytest.fixture
def toys(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toys]:
    """Two toys and Gemini as tiers, a key, no embedded model, no log, no time lost on retries."""
    plugin = Toys(config_file)
    monkeypatch.setenv("LLM_GEMINI_KEY", gemini.KEY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    async def sleep(seconds: float) -> None:
        plugin.delays.append(seconds)

    monkeypatch.setattr("llm_tiered.router.drivers.time.sleep", plugin.delays.append)
    monkeypatch.setattr("llm_tiered.router.drivers.asyncio.sleep", sleep)
    pm.register(plugin, name="toys")
    yield plugin
    pm.unregister(plugin)


@dataclass
class Ask:
    """`tiered`, sync or async, asked in the same words."""

    asynchronous: bool

    @cached_property
    def model(self) -> Any:
        """The model, as a caller gets it."""
        return llm.get_async_model("tiered") if self.asynchronous else llm.get_model("tiered")

    async def __call__(self, prompt: str | None, *, to: Any = None, **said: Any) -> Any:
        """The finished response to a prompt, which goes to a conversation where one is given."""
        return await self.finish((to or self.model).prompt(prompt, **said))

    async def finish(self, response: Any) -> Any:
        """The response, or all those of a chain, once they are done."""
        if hasattr(response, "responses"):
            return await self._finish_chain(response)
        if self.asynchronous:
            await response
        else:
            response.text()
        return response

    async def _finish_chain(self, chain: Any) -> list[Any]:
        if not self.asynchronous:
            return [await self.finish(response) for response in chain.responses()]
        return [await self.finish(response) async for response in chain.responses()]

    async def events(self, response: Any) -> list[StreamEvent]:
        """The events of a response that has not been started."""
        if self.asynchronous:
            return [event async for event in response.astream_events()]
        return list(response.stream_events())


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest, toys: Toys) -> Ask:
    """`tiered` with toys for local tiers, once sync and once async."""
    return Ask(asynchronous=request.param)


@pytest.fixture(scope="session")
def empty_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of llm without turns."""
    path = tmp_path_factory.mktemp("log") / "logs.db"
    write_empty_log(path)
    return path


@pytest.fixture
def logged(toys: Toys, logs: Path, empty_log: Path) -> Callable[[], list[dict[str, Any]]]:
    """Log what goes through the Python API. The turns in the log, oldest first, when called."""
    toys.configure(log_api=True)
    shutil.copy(empty_log, logs)

    def turns() -> list[dict[str, Any]]:
        with closing(sqlite3.connect(logs)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute("select * from turns order by id")]

    return turns
