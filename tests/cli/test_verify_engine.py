"""What `llm tiered verify` says of the engine and the servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llm_tiered.mlx.process import client
from llm_tiered.mlx.process.connection import EngineConnection
from llm_tiered.mlx.process.place import EngineFiles
from llm_tiered.mlx.process.start import StartError
from llm_tiered.paths import engine_folder
from llm_tiered.server.instances import Instance, announced
from tests.cli.commands import configure, run_json

if TYPE_CHECKING:
    from collections.abc import Callable


def verify(code: int = 0) -> dict[str, dict[str, str]]:
    """The findings of `verify --json`, by part."""
    return {finding["part"]: finding for finding in run_json("verify", code=code)}


def engine(code: int = 0) -> tuple[str, str, str | None]:
    """The finding about the engine."""
    finding = verify(code=code)["engine"]
    return finding["state"], finding["detail"], finding["fix"]


@pytest.mark.usefixtures("tiny_tiers", "embedded_model")
def test_engine_is_tried(started: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """If none runs, one is started for a second; what prevents that is told."""
    assert engine() == ("ok", "none runs, and one can be started", None)
    assert started == [1.0]

    def fail(keep_warm: float) -> None:
        raise StartError("the disk is full")

    monkeypatch.setattr("llm_tiered.cli.verify.Starting", fail)
    state, detail, fix = engine()
    assert (state, fix) == ("warn", f"its log is in {engine_folder()}")
    assert detail.endswith("each process loads models itself: the disk is full")


@pytest.mark.usefixtures("tiny_tiers", "embedded_model")
def test_engine_that_runs(
    engine_says: Callable[..., None], started: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that runs is named; one of another version, or one that hangs, can be ended."""
    engine_says()
    state, detail, fix = engine()
    assert (state, fix) == ("ok", None)
    assert detail.startswith("process 4711 since ")
    assert detail.endswith(", log /engine/host.log")
    engine_says({"pid": 4711, "started": 1.0})
    state, detail, fix = engine()
    assert (state, fix) == ("warn", "llm tiered stop")
    assert "the next prompt replaces it" in detail

    def look(_: float, **__: object) -> None:
        raise client.NoAnswer(EngineConnection(EngineFiles(Path("/engine"), "host")))

    monkeypatch.setattr(client, "look", look)
    assert engine(1) == ("fail", "it runs, but does not answer", "llm tiered stop --now")
    assert started == []


@pytest.mark.usefixtures("embedded_model")
def test_no_engine(started: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is used, none is tried."""
    monkeypatch.setattr("llm_tiered.cli.verify.has_engines", lambda: False)
    assert engine() == ("ok", "none without MLX", None)
    configure(keep_warm=0)
    assert engine() == ("ok", "never used, because keep_warm is 0", None)
    assert started == []


@pytest.mark.usefixtures("tiny_tiers", "embedded_model")
def test_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers have to answer, and should be of this version."""
    replies = {"http://127.0.0.1:1/v1": True, "http://127.0.0.1:2/v1": True}
    monkeypatch.setattr("llm_tiered.server.background.answers", lambda url, _: replies[url])
    here = Instance("http://127.0.0.1:1/v1", "127.0.0.1", 1, pid=1, started=1.0)
    older = Instance("http://127.0.0.1:2/v1", "127.0.0.1", 2, pid=2, started=2.0, version="0.0.9")
    with announced(here), announced(older):
        findings = verify()
        assert findings[f"server {here.url}"]["state"] == "ok"
        assert findings[f"server {older.url}"]["state"] == "warn"
        assert "it has version 0.0.9" in findings[f"server {older.url}"]["detail"]
        replies[here.url] = False
        finding = verify(code=1)[f"server {here.url}"]
    assert (finding["state"], finding["fix"]) == ("fail", "kill 1")
