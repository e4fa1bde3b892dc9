"""The model pool: which models stay in memory, which are evicted, and which requests wait."""

from __future__ import annotations

import gc
import json
import shutil
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.errors import ModelUnavailable
from llm_tiered.mlx.engine import loading, residency
from llm_tiered.mlx.engine.engine import Engine
from llm_tiered.mlx.engine.requests import Done, Failed, Started, Waiting
from llm_tiered.mlx.engine.worker import Worker
from llm_tiered.mlx.weights.inspect import inspect_folder
from llm_tiered.wording import gigabytes
from tests.mlx.engine.client import Call, make_request
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llm_tiered.mlx.engine.job import Job
    from llm_tiered.mlx.engine.loading import LoadedModel
    from llm_tiered.mlx.engine.requests import Event, GenerationRequest


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of three models of one size, whose weights are larger than their caches."""
    root = tmp_path_factory.mktemp("residency")
    return {
        name: build("phi3", root / name, seed=seed, layers=1, hidden=256)
        for seed, name in enumerate(("a", "b", "c"))
    }


@pytest.fixture(scope="module")
def size(folders: dict[str, Path]) -> int:
    """The size of one model's weights, in bytes."""
    [size] = {inspect_folder(folder).size for folder in folders.values()}
    return size


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine for this test only."""
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of running requests, one for each time that a request starts."""
    counts: list[int] = []
    start = Worker._start

    def counted(worker: Worker, job: Job) -> None:
        start(worker, job)
        counts.append(sum(len(runner) for runner in worker._runners))

    monkeypatch.setattr(Worker, "_start", counted)
    return counts


def submit(engine: Engine, folder: Path, prompt: str = "Hello", **fields: Any) -> Call:
    """Submit a request to the model in the folder."""
    return Call(make_request(folder, prompt, **({"max_tokens": 5} | fields)), engine).submit()


def ask(engine: Engine, folder: Path, prompt: str = "Hello", **fields: Any) -> str:
    """Return the answer of the model in the folder."""
    return submit(engine, folder, prompt, **fields).answer().text


def test_models_that_fit_stay(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """Two models that fit together stay in memory, the least recently used first."""
    for name in "aba":
        ask(engine, folders[name], budget=3 * size - 1)
    assert list(engine.resident().items()) == [("b", folders["b"]), ("a", folders["a"])]


def test_switching_loads_nothing(
    engine: Engine, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models that fit together are loaded once each, however often they take turns."""
    names: list[str] = []
    load = loading.load_model

    def record(request: GenerationRequest, *others: Any) -> LoadedModel:
        names.append(request.name)
        return load(request, *others)

    monkeypatch.setattr(residency, "load_model", record)
    for name in "abcbacab":
        ask(engine, folders[name])
    assert names == ["a", "b", "c"]


def test_least_recently_used_is_evicted(
    engine: Engine, folders: dict[str, Path], size: int
) -> None:
    """If a third model does not fit, the least recently used one is evicted."""
    for name in "abac":
        ask(engine, folders[name], budget=3 * size - 1)
    assert list(engine.resident()) == ["a", "c"]


def test_as_many_are_evicted_as_necessary(
    engine: Engine, folders: dict[str, Path], size: int
) -> None:
    """A model that fits only alone ends up alone."""
    for name in "ab":
        ask(engine, folders[name])
    ask(engine, folders["c"], budget=2 * size - 1)
    assert list(engine.resident()) == ["c"]


def test_kv_caches_count(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """Two models whose weights fill the budget don't both stay: KV caches need memory too."""
    for name in "ab":
        ask(engine, folders[name], budget=2 * size)
    assert list(engine.resident()) == ["b"]


def test_prefix_caches_count(engine: Engine, folders: dict[str, Path]) -> None:
    """A model's prefix cache uses memory that another model may need."""
    budget = 2 * inspect_folder(folders["a"]).memory + 200_000
    ask(engine, folders["a"], budget=budget)
    ask(engine, folders["b"], budget=budget)
    assert list(engine.resident()) == ["a", "b"]
    ask(engine, folders["a"], "and so on " * 120, budget=budget)
    ask(engine, folders["c"], budget=3 * budget // 2)
    assert list(engine.resident()) == ["a", "c"]


def test_too_large(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """A model that does not fit is refused with the numbers; models in memory stay."""
    text = ask(engine, folders["a"])
    refused, last = submit(engine, folders["b"], budget=size).outcome()
    assert (refused, type(last)) == ("", Failed)
    assert isinstance(last, Failed)
    assert isinstance(last.error, ModelUnavailable)
    needed = inspect_folder(folders["b"]).memory
    assert last.error.message == (
        f"b needs {gigabytes(needed)} of memory, but models may use only {gigabytes(size)}"
    )
    assert last.error.fix == "raise memory_limit in the config, or use a smaller model"
    assert list(engine.resident()) == ["a"]
    assert ask(engine, folders["a"]) == text


def test_draft_model_that_does_not_fit(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """If a model and its draft model don't fit together, the error names both."""
    draft = ("b", folders["b"])
    _, last = submit(engine, folders["a"], draft=draft, budget=2 * size).outcome()
    assert isinstance(last, Failed)
    assert isinstance(last.error, ModelUnavailable)
    assert "b beside a needs" in str(last.error)
    assert ask(engine, folders["a"]) == ask(engine, folders["a"], draft=draft)


@pytest.mark.parametrize("options", [{}, {"seed": 1}], ids=str)
def test_running_requests_count(
    options: dict[str, Any], engine: Engine, folders: dict[str, Path], running: list[int]
) -> None:
    """If the KV caches of all requests don't fit, some requests wait until others are done."""
    files = inspect_folder(folders["a"])
    assert files.kv_bytes_per_token
    budget = files.memory + 2 * 300 * files.kv_bytes_per_token
    fields = {"budget": budget, "max_tokens": 200, "stop": ("e", "a", "o"), **options}
    calls = [submit(engine, folders["a"], f"What is {n}?", **fields) for n in range(8)]
    assert all(isinstance(call.outcome()[1], Done) for call in calls)
    assert 1 < max(running) < 8


def test_caches_of_draft_models_count(
    engine: Engine, folders: dict[str, Path], running: list[int]
) -> None:
    """The KV cache of a draft model uses memory too."""
    sizes = [inspect_folder(folders[name]) for name in "ab"]
    per_token = sizes[0].kv_bytes_per_token
    assert per_token
    # Two requests and their draft models have four caches of 200 to 250 tokens.
    budget = sum(files.size for files in sizes) + 1100 * per_token
    draft = ("b", folders["b"])
    fields = {"budget": budget, "max_tokens": 30, "draft": draft}
    prompts = [f"{n} " + "and so on " * 60 for n in range(5)]
    calls = [submit(engine, folders["a"], prompt, **fields) for prompt in prompts]
    assert all(isinstance(call.outcome()[1], Done) for call in calls)
    assert max(running) == 2


def test_model_in_use_stays(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """A model that is generating is not evicted: another one waits until there is room for it."""
    call = submit(engine, folders["a"], max_tokens=100, budget=2 * size - 1)
    call.wait_for_text()
    ask(engine, folders["b"], budget=2 * size - 1)
    last = call.unread()[-1]
    assert isinstance(last, Done)
    assert last.generation_tokens == 100
    assert list(engine.resident()) == ["b"]


def test_waiting_is_reported(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """Requests that wait for memory hear how many are before them, and when it is their turn."""
    budget = 2 * size - 1
    submit(engine, folders["a"], max_tokens=100, budget=budget).wait_for_text()
    seen: list[list[Event]] = [[], []]
    requests = [make_request(folders["b"], f"Hello {number}", budget=budget) for number in (1, 2)]
    calls = [Call(request, engine) for request in requests]
    for call, events in zip(calls, seen, strict=True):
        call.on_event = events.append
        call.submit()
    for call in calls:
        call.answer()
    assert [events[:2] for events in seen] == [[Waiting(ahead), Started()] for ahead in (1, 2)]


def test_models_generate_side_by_side(
    engine: Engine, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Two models that fit together generate at the same time."""
    folder = build("phi3", tmp_path / "long", layers=1, context=100_000)
    call = submit(engine, folder, max_tokens=90_000)
    call.wait_for_text()
    ask(engine, folders["b"])
    assert not any(isinstance(event, Done) for event in call.unread())
    call.cancel_token.cancel()


def test_evicted_model_is_loaded_again(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """An evicted model is loaded again for the next request, and answers as before."""
    first = ask(engine, folders["a"], budget=2 * size - 1)
    other = ask(engine, folders["b"], budget=2 * size - 1)
    assert other != first
    assert ask(engine, folders["a"], budget=2 * size - 1) == first
    assert list(engine.resident()) == ["a"]


def test_another_folder_is_another_model(engine: Engine, folders: dict[str, Path]) -> None:
    """If a model's folder changes, as by an edit of the config, the new one answers."""
    old = ask(engine, folders["a"], model="mine")
    new = ask(engine, folders["b"], model="mine")
    assert new == ask(engine, folders["b"]) != old
    assert engine.resident()["mine"] == folders["b"]


def test_replaced_files(engine: Engine, folders: dict[str, Path], tmp_path: Path) -> None:
    """A model whose files were replaced is loaded again."""
    model = shutil.copytree(folders["a"], tmp_path / "model")
    first = ask(engine, model)
    shutil.rmtree(model)
    shutil.copytree(folders["b"], model)
    assert ask(engine, model) == ask(engine, folders["b"]) != first


def test_edit_of_the_config(folders: dict[str, Path], config_file: Path) -> None:
    """After the config names another folder for a model, the model there answers."""
    texts = []
    for name in ("a", "b"):
        models = [{"id": "residency", "path": str(folders[name])}]
        config_file.write_text(json.dumps({"models": models}))
        response = llm.get_model("mlx/residency").prompt("Hello", max_tokens=5, temperature=0)
        texts.append(response.text())
    assert texts[0] != texts[1]


def test_memory_is_freed(
    engine: Engine, folders: dict[str, Path], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evicted model's memory is free immediately, without a garbage collection."""
    import mlx.core as mx

    load = loading.load_model

    def load_with_cycle(*args: Any) -> LoadedModel:
        model = load(*args)
        vars(model.model)["cycle"] = model.model
        return model

    monkeypatch.setattr(residency, "load_model", load_with_cycle)
    before = mx.get_active_memory()
    gc.disable()
    try:
        for name in "ab":
            ask(engine, folders[name], budget=2 * size - 1)
            assert size // 2 < mx.get_active_memory() - before < size * 3 // 2
        engine.close()
        assert mx.get_active_memory() - before < size // 2
    finally:
        gc.enable()


def test_nothing_is_printed(
    engine: Engine, folders: dict[str, Path], size: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Loading, generating and evicting print nothing."""
    for name in "ab":
        ask(engine, folders[name], budget=2 * size - 1)
    engine.close()
    assert capfd.readouterr() == ("", "")
