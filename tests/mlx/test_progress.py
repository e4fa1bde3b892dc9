"""How far a long prompt has been read, on a terminal."""

from __future__ import annotations

import asyncio
import io
import queue
from contextlib import redirect_stderr
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.engine.requests import (
    Done,
    Event,
    Failed,
    GenerationRequest,
    Limits,
    Prefill,
    Ticket,
)
from llm_tiered.mlx.models import AsyncMlxModel, MlxModel
from llm_tiered.mlx.progress import LONG, PrefillBar
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "mlx/progress"
PATIENCE = 30  # seconds, for what takes far less
STEP = 2048  # mlx-lm reads so many tokens at once


class Terminal(io.StringIO):
    """A terminal, and what can be seen on its last line."""

    def isatty(self) -> bool:
        """Say yes."""
        return True

    @property
    def visible(self) -> str:
        """The line as it stands, with all that was written over something else."""
        line = ""
        for part in self.getvalue().split("\r"):
            line = part + line[len(part) :]
        return line.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model that takes long prompts."""
    return build("qwen2", tmp_path_factory.mktemp("progress"), layers=1, context=20_000)


def long_prompt(words: int, about: str) -> str:
    """A prompt of at least so many tokens, which begins like no other."""
    return f"{about}{' a' * words}"


def test_bar() -> None:
    """A bar shows what is done, and is gone when it is closed."""
    bar = PrefillBar()
    with redirect_stderr(Terminal()) as terminal:
        bar.show(0, 2 * LONG)
        assert "reading the prompt:   0%" in terminal.visible
        assert f"0/{2 * LONG}" in terminal.visible
        bar.show(LONG, 2 * LONG)
        bar.close()
        assert terminal.visible == ""
        bar.close()


def test_bar_begins_again() -> None:
    """After one prompt a bar serves the next one."""
    bar = PrefillBar()
    with redirect_stderr(Terminal()) as terminal:
        for total in (2 * LONG, 3 * LONG):
            bar.show(LONG, total)
            assert f"/{total}" in terminal.visible
            bar.close()
            assert terminal.visible == ""


def test_short_prompts_need_no_bar() -> None:
    """What is read before anybody wonders shows nothing."""
    bar = PrefillBar()
    with redirect_stderr(Terminal()) as terminal:
        bar.show(0, LONG - 1)
        bar.close()
        assert terminal.getvalue() == ""


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Where stderr is a file or a pipe, nothing is written to it."""
    bar = PrefillBar()
    bar.show(0, 2 * LONG)
    bar.show(LONG, 2 * LONG)
    bar.close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("options", [{}, {"seed": 1}], ids=str)
def test_long_prompt(
    options: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a long prompt is read there is a bar, and none with the answer."""
    model = MlxModel(ModelSpec(model_id=NAME, path=folder), Limits, lambda _: None)
    response = model.prompt(long_prompt(STEP + 200, str(options)), max_tokens=3, **options)
    with redirect_stderr(Terminal()) as terminal:
        for piece in response:
            assert piece
            assert terminal.visible == ""
    assert "reading the prompt" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_prompt_that_is_known(folder: Path) -> None:
    """A long prompt of which little is left to read shows no bar."""
    model = MlxModel(ModelSpec(model_id=NAME, path=folder), Limits, lambda _: None)
    for count in (1, 0):
        with redirect_stderr(Terminal()) as terminal:
            assert model.prompt(long_prompt(STEP, "known"), max_tokens=3).text()
        assert terminal.getvalue().count("0%") == count


def test_events(folder: Path) -> None:
    """The engine tells after each step how much of what had to be read has been."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    chat = ({"role": "user", "content": long_prompt(3 * STEP, "events")},)
    ENGINE.submit(GenerationRequest(NAME, folder, 10**9, chat, 3), events.put, Ticket())
    told = []
    while not isinstance(event := events.get(timeout=PATIENCE), Done | Failed):
        told += [event] if isinstance(event, Prefill) else []
    assert isinstance(event, Done)
    unread = event.prompt_tokens - event.cached_tokens
    expected = [Prefill(done, unread) for done in (STEP, 2 * STEP, 3 * STEP, unread - 1)]
    assert told == expected


async def test_cancelled_while_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar goes when nobody waits for the answer any more."""
    told, show = asyncio.Event(), PrefillBar.show

    def submit(_: Any, emit: Callable[[Event], None], *__: Any, **___: Any) -> bool:
        emit(Prefill(100, 2 * LONG))
        return True

    def shown(self: PrefillBar, done: int, total: int) -> None:
        show(self, done, total)
        told.set()

    monkeypatch.setattr(ENGINE, "submit", submit)
    monkeypatch.setattr(PrefillBar, "show", shown)
    model = AsyncMlxModel(ModelSpec(model_id=NAME, path=folder), Limits, lambda _: None)
    with redirect_stderr(Terminal()) as terminal:
        task = asyncio.ensure_future(model.prompt("Hello").text())
        await asyncio.wait_for(told.wait(), PATIENCE)
        assert "reading the prompt" in terminal.visible
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert terminal.visible == ""
