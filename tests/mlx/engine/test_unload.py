"""Models that are unloaded on demand: only those that no job needs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from llm_tiered.mlx.engine.engine import Engine
from tests.mlx.engine.client import Call, make_request
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llm_tiered.mlx.engine.residency import ResidentModel


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models."""
    folder = tmp_path_factory.mktemp("models")
    return tuple(build("qwen2", folder / name, layers=1) for name in ("one", "two"))  # type: ignore[return-value]


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine of its own."""
    made = Engine()
    yield made
    made.close()


def names(models: list[ResidentModel]) -> list[str]:
    """Their names."""
    return [model.name for model in models]


def test_idle_models(engine: Engine, folders: tuple[Path, Path]) -> None:
    """What is chosen goes, the rest stays, and what has gone is loaded again when needed."""
    for folder in folders:
        Call(make_request(folder, "Hello"), engine).submit().answer()
    seen: list[str] = []

    def choose(idle: list[ResidentModel]) -> list[str]:
        seen.extend(names(idle))
        return ["one"]

    assert names(engine.unload(choose).result()) == ["one"]
    assert seen == ["one", "two"]
    assert list(engine.resident()) == ["two"]
    Call(make_request(folders[0], "Hello"), engine).submit().answer()
    assert list(engine.resident()) == ["two", "one"]


def test_models_in_use(engine: Engine, folders: tuple[Path, Path]) -> None:
    """A model that answers is not there to choose from, and its answer goes on."""
    one, two = folders
    Call(make_request(two, "Hello"), engine).submit().answer()
    call = Call(make_request(one, "Hello", max_tokens=50), engine).submit()
    call.next()
    assert names(engine.unload(names).result()) == ["two"]
    answer = call.answer()
    assert answer.done.generation_tokens
    assert list(engine.resident()) == ["one"]


def test_last_use_is_the_end_of_an_answer(engine: Engine, folders: tuple[Path, Path]) -> None:
    """A long answer does not make a model look unused."""
    call = Call(make_request(folders[0], "Hello", max_tokens=50), engine).submit()
    call.next()
    middle = time.time()
    call.answer()
    engine.unload(lambda _: ()).result()
    assert engine.models()[0].last_used >= middle


def test_nothing_to_unload(engine: Engine, folders: tuple[Path, Path]) -> None:
    """Without models there is nothing to choose from, and a wrong name is an error of the wish."""
    assert engine.unload(names).result() == []
    Call(make_request(folders[0], "Hello"), engine).submit().answer()
    with pytest.raises(KeyError):
        engine.unload(lambda _: ["another"]).result()
    assert Call(make_request(folders[0], "Hello"), engine).submit().answer()
