"""The engines of a Dask cluster, as one engine."""

from __future__ import annotations

import importlib.metadata
import platform
import queue
import threading
from typing import TYPE_CHECKING, Any

import distributed
import pytest

from llm_tiered.cluster import roster, worker
from llm_tiered.cluster.engine import ClusterEngine
from llm_tiered.cluster.roster import Roster
from llm_tiered.errors import DownloadError, EngineError, ModelUnavailable
from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.engine.requests import CancelToken, Done, Failed, GenerationRequest
from llm_tiered.mlx.tokens.decoding import Text
from llm_tiered.mlx.weights import store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llm_tiered.cluster.lane import Lane

NAME = "mlx/tiny"


class Workers:
    """An engine on the workers of a cluster, and the lines that it tells."""

    def __init__(self, client: Any, folder: Path, version: str) -> None:
        self.lines: list[str] = []
        self.roster = Roster(client, version, self.lines.append)
        self.roster.refresh()
        spec = ModelSpec(NAME, path=folder)
        self.engine = ClusterEngine(client, self.roster, [spec], self.lines.append)
        self.engine.refresh()


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    """A client of the cluster."""
    with distributed.Client(cluster, set_as_default=False) as connected:  # type: ignore[no-untyped-call]  # no types
        yield connected


@pytest.fixture
def workers(client: Any, tiny: Path) -> Iterator[Workers]:
    """The engine of the cluster."""
    connected = Workers(client, tiny, importlib.metadata.version("llm-tiered"))
    yield connected
    connected.engine.close()


def request(folder: Path, text: str = "Hello", max_tokens: int = 8) -> GenerationRequest:
    """Return a request to the tiny model."""
    chat = ({"role": "user", "content": text},)
    return GenerationRequest(NAME, folder, 10**10, chat, max_tokens, {"temperature": 0.0})


def answer(engine: Any, asked: GenerationRequest) -> tuple[str, Any]:
    """Return the text of an answer, and its last event."""
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    engine.submit(asked, events.put, CancelToken())
    text, event = "", None
    while not isinstance(event, (Done, Failed)):
        event = events.get(timeout=60)
        text += event.text if isinstance(event, Text) else ""
    return text, event


def test_answers_are_those_of_an_engine_here(workers: Workers, tiny: Path) -> None:
    """A worker's answer has the text and the tokens of this process's engine."""
    text, done = answer(ENGINE, request(tiny))
    there, done_there = answer(workers.engine, request(tiny))
    assert there == text
    assert (done_there.prompt_tokens, done_there.generation_tokens) == (
        done.prompt_tokens,
        done.generation_tokens,
    )


def test_capacity_is_what_the_workers_declare(workers: Workers) -> None:
    """Each worker answers as many requests at the same time as its resource says."""
    assert workers.engine.capacity == 8


def test_models_need_no_check_here(workers: Workers, tiny: Path) -> None:
    """A model need not be on this machine."""
    assert workers.engine.resident() == {NAME: tiny}


def test_worker_without_the_model(
    workers: Workers, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request moves on from a worker that can't run the model, which is said once."""
    unfit: list[str] = []

    def check(*_: Any, **__: Any) -> None:
        address = distributed.get_worker().address
        if not unfit or address in unfit:
            unfit[:] = [address]
            raise ModelUnavailable("not downloaded", fix="llm tiered download")

    monkeypatch.setattr(store, "check", check)
    monkeypatch.setattr(ENGINE, "resident", dict)
    texts = [answer(workers.engine, request(tiny, str(number)))[0] for number in range(4)]
    assert all(texts)
    assert workers.lines == [f"{unfit[0]} can't run mlx/tiny: not downloaded (llm tiered download)"]


def test_model_on_no_worker(workers: Workers, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no worker can run the model, the request fails with a worker's reason and what to do.

    That holds for the next requests, too: none of the models here is to blame.
    """

    def check(*_: Any, **__: Any) -> None:
        raise DownloadError("not downloaded", fix="llm tiered download mlx/tiny")

    monkeypatch.setattr(store, "check", check)
    monkeypatch.setattr(ENGINE, "resident", dict)
    _, failed = answer(workers.engine, request(tiny))
    why = (
        "no worker can run mlx/tiny: not downloaded (on the workers: llm tiered download mlx/tiny)"
    )
    assert str(failed.error) == why
    assert not isinstance(failed.error, ModelUnavailable)
    with pytest.raises(ModelUnavailable, match="no worker can run mlx/tiny"):
        workers.engine.check(NAME)


def test_progress_of_a_download(
    workers: Workers, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that downloads a model says so here."""

    def fetch(spec: Any, *, show_progress: Any) -> Path:
        show_progress(1_000_000_000, 4_400_000_000)
        return tiny

    monkeypatch.setattr(worker, "_REPORT", 0)
    monkeypatch.setattr(ENGINE, "resident", dict)
    monkeypatch.setattr(store, "locate", lambda _: None)
    monkeypatch.setattr(store, "check", lambda *_, **__: None)
    monkeypatch.setattr(store, "fetch", fetch)
    answer(workers.engine, request(tiny))
    assert [line.partition(": ")[2] for line in workers.lines] == [
        "downloading mlx/tiny: 0 MB of 0 MB",
        "downloading mlx/tiny: 1.0 GB of 4.4 GB",
        "mlx/tiny is downloaded",
    ]


def test_worker_that_was_started_again(
    workers: Workers, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker has forgotten is sent again, once it is there again."""
    answer(workers.engine, request(tiny))
    for lane in workers.engine._lanes.values():
        lane._session = "the one before"
    lose, lost = workers.engine._lose, threading.Semaphore(0)

    def note(lane: Lane) -> None:
        lose(lane)
        lost.release()

    for lane in workers.engine._lanes.values():
        lane._lose = note
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    workers.engine.submit(request(tiny), events.put, CancelToken())
    assert lost.acquire(timeout=60)
    workers.engine.refresh()
    assert isinstance(events.get(timeout=60), Text)


def test_error_of_the_engine(workers: Workers, tiny: Path) -> None:
    """An error while generating is that of the request, and no worker is left out for it."""
    _, failed = answer(workers.engine, request(tiny, "word " * 2000))
    assert type(failed.error).__name__ == "PromptTooLong"
    assert workers.lines == []


def test_error_on_the_way(workers: Workers, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker can't explain is an error of its engine, with the name of the machine."""

    def broken(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(worker, "_here", broken)
    _, failed = answer(workers.engine, request(tiny))
    assert isinstance(failed.error, EngineError)
    assert str(failed.error) == f"{platform.node()}: OSError: the disk is full"


def test_other_version_is_left_out(client: Any, tiny: Path) -> None:
    """Workers with another version of the package get nothing, and are named with it."""
    workers = Workers(client, tiny, "9.9")
    assert workers.engine.capacity == 0
    here = importlib.metadata.version("llm-tiered")
    assert len(workers.lines) == 2
    assert all(
        line.endswith(f"llm-tiered is 9.9 here, and it has {here}") for line in workers.lines
    )


SILENT, AWAKE = threading.Event(), threading.Event()


def silent_version() -> str:
    """The version, which only one of the workers says before the test ends."""
    if not SILENT.is_set():
        SILENT.set()
        AWAKE.wait(60)
    return importlib.metadata.version("llm-tiered")


def test_silent_worker(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is stopped keeps nobody waiting: it is named, and left out until it answers."""
    monkeypatch.setattr(roster, "_version_there", lambda: silent_version)
    monkeypatch.setattr(roster, "ANSWERS_WITHIN", 1.0)
    lines: list[str] = []
    seen = Roster(client, importlib.metadata.version("llm-tiered"), lines.append)
    try:
        seen.refresh()
        (silent,) = seen.silent
        assert len(seen.rows) == 1
        assert silent not in seen.rows
        assert lines == [f"{silent} is left out as long as it does not answer"]
    finally:
        AWAKE.set()
    monkeypatch.setattr(roster, "ANSWERS_WITHIN", 60.0)
    seen.refresh()
    assert len(seen.rows) == 2
    assert not seen.silent
    assert len(lines) == 1


def test_cancelled_request(workers: Workers, tiny: Path) -> None:
    """A request that is cancelled is not answered, and ends on its worker, too."""
    token, events = CancelToken(), queue.SimpleQueue[Any]()
    workers.engine.submit(request(tiny, max_tokens=400), events.put, token)
    token.cancel()
    answer(workers.engine, request(tiny))
    assert events.empty()


def test_lost_scheduler() -> None:
    """If the scheduler is gone, the run is told."""
    with distributed.LocalCluster(  # type: ignore[no-untyped-call]  # it has no types
        n_workers=0,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as own:
        client = distributed.Client(own, set_as_default=False)  # type: ignore[no-untyped-call]  # no types
        lost: queue.SimpleQueue[bool] = queue.SimpleQueue()
        with Roster(client, "1", print).watching(int, lambda: lost.put(True)):
            client.close()  # type: ignore[no-untyped-call]  # no types
            assert lost.get(timeout=30)
