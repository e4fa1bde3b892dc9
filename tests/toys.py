"""Toy models in place of the local tiers, and `tiered` asked either way. A pytest plugin."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import llm
import pytest
import yaml
from llm.parts import StreamEvent
from llm.plugins import pm

from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import AsyncMlxModel, MlxModel
from tests import gemini
from tests.make_log import empty_log as write_empty_log

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

SMALL, MEDIUM = "mlx/toy-small", "mlx/toy-medium"

TIERS = [
    {"name": "small", "complexity": "1-4", "model": SMALL},
    {"name": "medium", "complexity": "5-7", "model": MEDIUM},
    {"name": "cloud", "complexity": "8-10", "model": gemini.MODEL},
]

Action: TypeAlias = "str | StreamEvent | llm.ToolCall | Exception | Callable[[], None]"


class Options(llm.Options):
    """What a toy is told; it takes no notice."""

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    seed: int | None = None


@dataclass
class Toy:
    """What a toy does when it is asked, one action after the other, and what it was asked.

    It puts out text and events, makes tool calls, raises errors and calls functions. `then` is
    what it does from the second time on, if that is something else.
    """

    does: list[Action]
    then: list[Action] | None = None
    tools: bool = False
    has_async: bool = True
    prompts: list[llm.Prompt] = field(default_factory=list)

    def play(self, prompt: llm.Prompt, response: Any) -> Iterator[Any]:
        """What the model puts out: text and events."""
        again = bool(self.prompts)
        self.prompts.append(prompt)
        for action in self.then if again and self.then is not None else self.does:
            if isinstance(action, Exception):
                raise action
            if isinstance(action, llm.ToolCall):
                response.add_tool_call(action)
            elif isinstance(action, (str, StreamEvent)):
                yield action
            else:
                action()
        response.set_usage(input=5, output=2)


def _spec(model_id: str) -> ModelSpec:
    return ModelSpec(model_id=model_id, path=Path(model_id))


class ToyModel(MlxModel):
    """A toy as llm knows it: a local model that is always there, whatever the machine."""

    Options = Options  # type: ignore[assignment]  # llm declares it as a nested class
    supports_schema = False

    def __init__(self, model_id: str, toy: Toy) -> None:
        super().__init__(_spec(model_id), Limits, lambda _: None)
        self.toy = toy

    @property
    def supports_tools(self) -> bool:  # type: ignore[override]  # computed, as in MlxModel
        """Whether the toy was given the gift."""
        return self.toy.tools

    def check(self, *, allow_cpu: bool) -> None:
        """There is nothing that could be missing."""

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[Any]:
        """Do what the toy does."""
        yield from self.toy.play(prompt, response)


class AsyncToyModel(AsyncMlxModel):
    """A toy as llm knows it, for asyncio."""

    Options = Options  # type: ignore[assignment]  # llm declares it as a nested class
    supports_schema = False

    def __init__(self, model_id: str, toy: Toy) -> None:
        super().__init__(_spec(model_id), Limits, lambda _: None)
        self.toy = toy

    @property
    def supports_tools(self) -> bool:  # type: ignore[override]  # computed, as in MlxModel
        """Whether the toy was given the gift."""
        return self.toy.tools

    def check(self, *, allow_cpu: bool) -> None:
        """There is nothing that could be missing."""

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncGenerator[Any, None]:
        """Do what the toy does."""
        for piece in self.toy.play(prompt, response):
            yield piece


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
        for model_id, toy in ((SMALL, self.small), (MEDIUM, self.medium)):
            register(
                ToyModel(model_id, toy), AsyncToyModel(model_id, toy) if toy.has_async else None
            )


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
