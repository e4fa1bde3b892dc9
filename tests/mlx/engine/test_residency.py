from __future__ import annotations

import gc
import json
import subprocess
import sys
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.errors import ModelUnavailable
from llm_tiered.mlx.engine import loading, residency
from llm_tiered.mlx.engine.engine import Engine
from llm_tiered.mlx.engine.requests import CancelToken, Done, Event, Failed, GenerationRequest
from llm_tiered.mlx.engine.worker import Worker
from llm_tiered.mlx.tokens.decoding import Text
from llm_tiered.mlx.weights.inspect import inspect_folder
from llm_tiered.wording import gigabytes
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llm_tiered.mlx.engine.job import Job
    from llm_tiered.mlx.engine.loading import LoadedModel

PATIENCE = 60  # seconds, for what takes far less
PLENTY = 10**9


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give three models of one size, whose weights are larger than their caches."""
    root = tmp_path_factory.mktemp("residency")
    return {
        name: build("phi3", root / name, seed=seed, layers=1, hidden=512)
        for seed, name in enumerate(("a", "b", "c"))
    }


@pytest.fixture(scope="module")
def size(folders: dict[str, Path]) -> int:
    """Give the bytes that the weights of one model take."""
    [size] = {inspect_folder(folder).size for folder in folders.values()}
    return size


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Give an engine of the test's own."""
    engine = Engine()
    yield engine
    engine.close()


def ask(engine: Engine, folder: Path, **said: Any) -> str:
    """Ask the model in the folder, and wait for its answer."""
    text, last = wait(start(engine, folder, **said))
    assert isinstance(last, Done), last
    return text


def start(engine: Engine, folder: Path, prompt: str = "Hello", **said: Any) -> SimpleQueue[Event]:
    """Ask the model in the folder, which goes by the folder's name unless another is given."""
    events: SimpleQueue[Event] = SimpleQueue()
    fields = {
        "model": folder.name,
        "budget": PLENTY,
        "max_tokens": 5,
        "sampling": {"temperature": 0.0},
        "chat": ({"role": "user", "content": prompt},),
    }
    engine.submit(GenerationRequest(folder=folder, **{**fields, **said}), events.put, CancelToken())
    return events


def wait(events: SimpleQueue[Event]) -> tuple[str, Done | Failed]:
    """Wait for an answer; gives its text and its last event."""
    text = ""
    while not isinstance(event := events.get(timeout=PATIENCE), Done | Failed):
        text += event.text if isinstance(event, Text) else ""
    return text, event


def wait_for_text(events: SimpleQueue[Event]) -> None:
    """Wait until an answer has begun."""
    while not isinstance(event := events.get(timeout=PATIENCE), Text):
        assert not isinstance(event, Done | Failed)


def test_models_that_fit_stay(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """Two models that fit together stay in memory, the least recently used first."""
    for name in "aba":
        ask(engine, folders[name], budget=3 * size - 1)
    assert list(engine.resident().items()) == [("b", folders["b"]), ("a", folders["a"])]


def test_switching_loads_nothing(
    engine: Engine, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the models that fit together is loaded once, however often they take turns."""
    loaded: list[str] = []
    load = loading.load_model

    def note(request: GenerationRequest, *others: Any) -> LoadedModel:
        loaded.append(request.name)
        return load(request, *others)

    monkeypatch.setattr(residency, "load_model", note)
    for name in "abcbacab":
        ask(engine, folders[name])
    assert loaded == ["a", "b", "c"]


def test_least_recently_used_goes(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """Where a third model does not fit, the one that was not used for longest goes."""
    for name in "abac":
        ask(engine, folders[name], budget=3 * size - 1)
    assert list(engine.resident()) == ["a", "c"]


def test_as_many_go_as_have_to(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """A model that fits only alone is alone."""
    for name in "ab":
        ask(engine, folders[name])
    ask(engine, folders["c"], budget=2 * size - 1)
    assert list(engine.resident()) == ["c"]


def test_caches_count(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """Two models whose weights alone fill the budget don't stay: their caches need room too."""
    for name in "ab":
        ask(engine, folders[name], budget=2 * size)
    assert list(engine.resident()) == ["b"]


def test_what_was_read_counts(engine: Engine, folders: dict[str, Path]) -> None:
    """What a model keeps of a long prompt takes room that another one may need."""
    budget = 2 * inspect_folder(folders["a"]).memory + 200_000
    ask(engine, folders["a"], budget=budget)
    ask(engine, folders["b"], budget=budget)
    assert list(engine.resident()) == ["a", "b"]
    ask(engine, folders["a"], prompt="and so on " * 120, budget=budget)
    ask(engine, folders["c"], budget=3 * budget // 2)
    assert list(engine.resident()) == ["a", "c"]


def test_too_large(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """A model that does not fit at all is refused with the numbers; what is there stays."""
    text = ask(engine, folders["a"])
    refused, last = wait(start(engine, folders["b"], budget=size))
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


def test_draft_that_does_not_fit(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """Where a model and the one that guesses for it don't fit together, both are named."""
    draft = ("b", folders["b"])
    _, last = wait(start(engine, folders["a"], draft=draft, budget=2 * size))
    assert isinstance(last, Failed)
    assert isinstance(last.error, ModelUnavailable)
    assert "b beside a needs" in str(last.error)
    assert ask(engine, folders["a"]) == ask(engine, folders["a"], draft=draft)


@pytest.mark.parametrize("options", [{}, {"seed": 1}], ids=str)
def test_running_requests_count(
    options: dict[str, Any],
    engine: Engine,
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the KV caches of all requests don't fit, some wait until others are done."""
    found = inspect_folder(folders["a"])
    assert found.kv_bytes_per_token
    budget = found.memory + 2 * 300 * found.kv_bytes_per_token
    together: list[int] = []
    begin = Worker._start

    def note(worker: Worker, job: Job) -> None:
        begin(worker, job)
        together.append(sum(len(runner) for runner in worker._runners))

    monkeypatch.setattr(Worker, "_start", note)
    settings = {"budget": budget, "max_tokens": 200, "stop": ("e", "a", "o"), **options}
    started = [start(engine, folders["a"], f"What is {n}?", **settings) for n in range(8)]
    answers = [wait(events) for events in started]
    assert all(isinstance(last, Done) for _, last in answers)
    assert 1 < max(together) < 8


def test_caches_of_drafts_count(
    engine: Engine, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The KV cache of the model that guesses ahead takes memory, too."""
    sizes = [inspect_folder(folders[name]) for name in "ab"]
    per_token = sizes[0].kv_bytes_per_token
    assert per_token
    # Two requests and their drafts have four caches of 200 to 250 tokens.
    budget = sum(found.size for found in sizes) + 1100 * per_token
    together: list[int] = []
    begin = Worker._start

    def note(worker: Worker, job: Job) -> None:
        begin(worker, job)
        together.append(sum(len(runner) for runner in worker._runners))

    monkeypatch.setattr(Worker, "_start", note)
    draft = ("b", folders["b"])
    settings = {"budget": budget, "max_tokens": 30, "draft": draft}
    prompts = [f"{n} " + "and so on " * 60 for n in range(5)]
    started = [start(engine, folders["a"], prompt, **settings) for prompt in prompts]
    assert all(isinstance(wait(events)[1], Done) for events in started)
    assert max(together) == 2


def test_model_in_use_stays(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """A model that answers is not evicted: another one waits until there is room for it."""
    running = start(engine, folders["a"], max_tokens=100, budget=2 * size - 1)
    wait_for_text(running)
    ask(engine, folders["b"], budget=2 * size - 1)
    left = [running.get() for _ in range(running.qsize())]
    assert isinstance(left[-1], Done)
    assert left[-1].generation_tokens == 100
    assert list(engine.resident()) == ["b"]


def test_models_answer_side_by_side(engine: Engine, folders: dict[str, Path]) -> None:
    """Where both fit, one model answers while another one does."""
    running = start(engine, folders["a"], max_tokens=400)
    wait_for_text(running)
    ask(engine, folders["b"])
    assert not any(isinstance(running.get(), Done) for _ in range(running.qsize()))


def test_evicted_model_comes_back(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """A model that had to go is loaded again when it is asked again, and answers as before."""
    first = ask(engine, folders["a"], budget=2 * size - 1)
    other = ask(engine, folders["b"], budget=2 * size - 1)
    assert other != first
    assert ask(engine, folders["a"], budget=2 * size - 1) == first
    assert list(engine.resident()) == ["a"]


def test_another_folder_is_another_model(engine: Engine, folders: dict[str, Path]) -> None:
    """Where a model's folder changes, as an edit of the config can do, the new one answers."""
    old = ask(engine, folders["a"], model="mine")
    new = ask(engine, folders["b"], model="mine")
    assert new == ask(engine, folders["b"]) != old
    assert engine.resident()["mine"] == folders["b"]


def test_edit_of_the_config_holds(folders: dict[str, Path], config_file: Path) -> None:
    """A folder that the config puts in another's place is asked from then on."""
    texts = []
    for name in ("a", "b"):
        models = [{"id": "residency", "path": str(folders[name])}]
        config_file.write_text(json.dumps({"models": models}))
        response = llm.get_model("mlx/residency").prompt("Hello", max_tokens=5, temperature=0)
        texts.append(response.text())
    assert texts[0] != texts[1]


def test_memory_is_given_back(
    engine: Engine, folders: dict[str, Path], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evicted model's memory is free at once, before Python finds that it is in a circle."""
    import mlx.core as mx

    load = loading.load_model

    def circular(*args: Any) -> LoadedModel:
        loaded = load(*args)
        vars(loaded.model)["circle"] = loaded.model
        return loaded

    monkeypatch.setattr(residency, "load_model", circular)
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


def test_stdout_stays_clean(
    engine: Engine, folders: dict[str, Path], size: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Loading, generating and evicting print nothing."""
    for name in "ab":
        ask(engine, folders[name], budget=2 * size - 1)
    engine.close()
    assert capfd.readouterr() == ("", "")


def test_open_files_stay_allowed(folders: dict[str, Path]) -> None:
    """Loading a model leaves the process its limit of open files, which mlx_lm would lower."""
    # In a process of its own: here other tests may have imported mlx_lm before.
    code = f"""
import json, resource
from pathlib import Path
from queue import SimpleQueue
from llm_tiered.mlx.engine.engine import Engine
from llm_tiered.mlx.engine.requests import Done, GenerationRequest, CancelToken

before = resource.getrlimit(resource.RLIMIT_NOFILE)
events = SimpleQueue()
chat = ({{"role": "user", "content": "Hello"}},)
request = GenerationRequest("a", Path({str(folders["a"])!r}), 10**9, chat, max_tokens=5)
Engine().submit(request, events.put, CancelToken())
while not isinstance(events.get(), Done):
    pass
print(json.dumps([before, resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    before, after = json.loads(done.stdout)
    assert after == before
