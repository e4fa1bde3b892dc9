from __future__ import annotations

import json
import subprocess
import sys
from queue import SimpleQueue
from typing import TYPE_CHECKING

import llm
import pytest

from llm_tiered.mlx import files
from llm_tiered.mlx.engine import Engine
from llm_tiered.mlx.requests import Done, Event, Failed, GenerationRequest, Text, Ticket
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    [size] = {files.inspect(folder).size for folder in folders.values()}
    return size


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Give an engine of the test's own."""
    engine = Engine()
    yield engine
    engine.close()


def ask(engine: Engine, folder: Path, *, name: str | None = None, budget: int = PLENTY) -> str:
    """Ask the model in the folder, which goes by the folder's name unless another is given."""
    events: SimpleQueue[Event] = SimpleQueue()
    request = GenerationRequest(
        model=name or folder.name,
        folder=folder,
        budget=budget,
        chat=({"role": "user", "content": "Hello"},),
        max_tokens=5,
        sampling={"temperature": 0.0},
    )
    engine.submit(request, events.put, Ticket())
    text = ""
    while not isinstance(event := events.get(timeout=PATIENCE), Done | Failed):
        text += event.text if isinstance(event, Text) else ""
    assert isinstance(event, Done), event
    return text


def test_models_that_fit_stay(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """Two models that fit together stay in memory, the least recently used first."""
    for name in "aba":
        ask(engine, folders[name], budget=3 * size - 1)
    assert list(engine.resident().items()) == [("b", folders["b"]), ("a", folders["a"])]


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


def test_evicted_model_comes_back(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """A model that had to go is loaded again when it is asked again, and answers as before."""
    first = ask(engine, folders["a"], budget=2 * size - 1)
    other = ask(engine, folders["b"], budget=2 * size - 1)
    assert other != first
    assert ask(engine, folders["a"], budget=2 * size - 1) == first
    assert list(engine.resident()) == ["a"]


def test_another_folder_is_another_model(engine: Engine, folders: dict[str, Path]) -> None:
    """Where a model's folder changes, as an edit of the config can do, the new one answers."""
    old = ask(engine, folders["a"], name="mine")
    new = ask(engine, folders["b"], name="mine")
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


def test_memory_is_given_back(engine: Engine, folders: dict[str, Path], size: int) -> None:
    """An evicted model's memory is free again, and a closed engine's too."""
    import mlx.core as mx

    before = mx.get_active_memory()
    for name in "ab":
        ask(engine, folders[name], budget=2 * size - 1)
        assert size // 2 < mx.get_active_memory() - before < size * 3 // 2
    engine.close()
    assert mx.get_active_memory() - before < size // 2


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
from llm_tiered.mlx.engine import Engine
from llm_tiered.mlx.requests import Done, GenerationRequest, Ticket

before = resource.getrlimit(resource.RLIMIT_NOFILE)
events = SimpleQueue()
chat = ({{"role": "user", "content": "Hello"}},)
request = GenerationRequest("a", Path({str(folders["a"])!r}), 10**9, chat, max_tokens=5)
Engine().submit(request, events.put, Ticket())
while not isinstance(events.get(), Done):
    pass
print(json.dumps([before, resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    before, after = json.loads(done.stdout)
    assert after == before
