"""What is shown before an answer begins: a model that loads, a long prompt that is read."""

from __future__ import annotations

import asyncio
import io
import queue
from contextlib import redirect_stderr
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.engine import ENGINE, Engine
from llm_tiered.mlx.engine.requests import (
    CancelToken,
    Done,
    Event,
    Failed,
    GenerationRequest,
    Limits,
    Loading,
    Prefill,
    Started,
    Waiting,
)
from llm_tiered.mlx.models import AsyncMlxModel, MlxModel
from llm_tiered.mlx.progress import LONG, PrefillBar, ProgressLine
from llm_tiered.mlx.weights.inspect import inspect_folder
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llm_tiered.mlx.engine.requests import Progress

NAME = "mlx/progress"
PATIENCE = 30  # seconds, far more than needed
STEP = 2048  # tokens that mlx-lm reads in one step


class Terminal(io.StringIO):
    """A terminal that shows what is on its last line."""

    def isatty(self) -> bool:
        """Return True."""
        return True

    @property
    def visible(self) -> str:
        """The line as a user sees it, after every carriage return."""
        line = ""
        for part in self.getvalue().split("\r"):
            line = part + line[len(part) :]
        return line.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a long context."""
    return build("qwen2", tmp_path_factory.mktemp("progress"), layers=1, context=20_000)


def long_prompt(words: int, about: str) -> str:
    """A prompt of at least `words` tokens with a unique beginning."""
    return f"{about}{' a' * words}"


def test_bar() -> None:
    """A bar shows the progress, and disappears when it is closed."""
    bar = PrefillBar()
    with redirect_stderr(Terminal()) as terminal:
        bar.show(0, 2 * LONG)
        assert "reading the prompt:   0%" in terminal.visible
        assert f"0/{2 * LONG}" in terminal.visible
        bar.show(LONG, 2 * LONG)
        bar.close()
        assert terminal.visible == ""
        bar.close()


def test_bar_is_reusable() -> None:
    """A closed bar can show the progress of another prompt."""
    bar = PrefillBar()
    with redirect_stderr(Terminal()) as terminal:
        for total in (2 * LONG, 3 * LONG):
            bar.show(LONG, total)
            assert f"/{total}" in terminal.visible
            bar.close()
            assert terminal.visible == ""


def test_short_prompts_show_no_bar() -> None:
    """The prefill of a short prompt shows nothing."""
    bar = PrefillBar()
    with redirect_stderr(Terminal()) as terminal:
        bar.show(0, LONG - 1)
        bar.close()
        assert terminal.getvalue() == ""


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """If stderr is a file or a pipe, nothing is written to it."""
    bar = PrefillBar()
    bar.show(0, 2 * LONG)
    bar.show(LONG, 2 * LONG)
    bar.close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("options", [{}, {"seed": 1}], ids=str)
def test_long_prompt(
    options: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is a bar while a long prompt is read, and none beside the answer."""
    model = MlxModel(ModelSpec(model_id=NAME, path=folder), Limits, lambda _: None)
    response = model.prompt(long_prompt(STEP + 200, str(options)), max_tokens=3, **options)
    with redirect_stderr(Terminal()) as terminal:
        for piece in response:
            assert piece
            assert terminal.visible == ""
    assert "reading the prompt" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_cached_prompt(folder: Path) -> None:
    """A long prompt shows no bar if most of it is in the KV cache."""
    model = MlxModel(ModelSpec(model_id=NAME, path=folder), Limits, lambda _: None)
    for count in (1, 0):
        with redirect_stderr(Terminal()) as terminal:
            assert model.prompt(long_prompt(STEP, "cached"), max_tokens=3).text()
        assert terminal.getvalue().count("0%") == count


def test_events(folder: Path) -> None:
    """After each step the engine reports how many of the uncached tokens have been read."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    chat = ({"role": "user", "content": long_prompt(3 * STEP, "events")},)
    ENGINE.submit(GenerationRequest(NAME, folder, 10**9, chat, 3), events.put, CancelToken())
    reports = []
    while not isinstance(event := events.get(timeout=PATIENCE), Done | Failed):
        reports += [event] if isinstance(event, Prefill) else []
    assert isinstance(event, Done)
    unread = event.prompt_tokens - event.cached_tokens
    expected = [Prefill(done, unread) for done in (STEP, 2 * STEP, 3 * STEP, unread - 1)]
    assert reports == expected


async def test_cancelled_during_prefill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar disappears when the prompt is cancelled."""
    shown, show = asyncio.Event(), PrefillBar.show

    def submit(_: Any, emit: Callable[[Event], None], *__: Any, **___: Any) -> bool:
        emit(Prefill(100, 2 * LONG))
        return True

    def show_and_signal(self: PrefillBar, done: int, total: int) -> None:
        show(self, done, total)
        shown.set()

    monkeypatch.setattr(ENGINE, "submit", submit)
    monkeypatch.setattr(PrefillBar, "show", show_and_signal)
    model = AsyncMlxModel(ModelSpec(model_id=NAME, path=folder), Limits, lambda _: None)
    with redirect_stderr(Terminal()) as terminal:
        task = asyncio.ensure_future(model.prompt("Hello").text())
        await asyncio.wait_for(shown.wait(), PATIENCE)
        assert "reading the prompt" in terminal.visible
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert terminal.visible == ""


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (Waiting(1), "waiting for another answer"),
        (Waiting(3), "waiting for 3 other answers"),
        (Loading("mlx/one", 2_300_000_000), "loading mlx/one (2.3 GB)"),
        (Prefill(1, 2 * LONG), "reading the prompt:"),
        (Started(), ""),
    ],
    ids=str,
)
def test_line(progress: Progress, shown: str) -> None:
    """A line says what the answer waits for, and disappears when it begins."""
    line = ProgressLine()
    with redirect_stderr(Terminal()) as terminal:
        line.show(Waiting(9))
        line.show(progress)
        assert terminal.visible.startswith(shown)
        assert bool(terminal.visible) == bool(shown)
        line.close()
        assert terminal.visible == ""


def test_no_line_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of this is written to a file or a pipe."""
    line = ProgressLine()
    for progress in (Waiting(2), Started(), Loading("mlx/one", 1)):
        line.show(progress)
    line.close()
    assert capsys.readouterr() == ("", "")


def test_loading_is_reported(folder: Path) -> None:
    """The engine says that a request's turn has come, and that its model is being loaded."""
    engine = Engine()
    request = GenerationRequest(NAME, folder, 10**9, ({"role": "user", "content": "Hello"},), 2)
    for first in ([Started(), Loading(NAME, inspect_folder(folder).size)], [Started()]):
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        engine.submit(request, events.put, CancelToken())
        for event in first:
            assert events.get(timeout=PATIENCE) == event
        while not isinstance(event := events.get(timeout=PATIENCE), Done):
            assert not isinstance(event, (Loading, Failed))
    engine.close()
