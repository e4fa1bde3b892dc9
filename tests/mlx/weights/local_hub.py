"""A hub on loopback for tests that download; a pytest plugin."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download

from tests.hub_server import CHUNK, REPO, HubServer, model_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """The user's token for the hub."""
    token = "hf_a_token_that_stays_secret"
    monkeypatch.setenv("HF_TOKEN", token)
    return token


@pytest.fixture
def server(tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one model, and an empty cache."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    # After a broken connection the library waits a second before it tries again.
    clock = SimpleNamespace(**vars(time) | {"sleep": lambda _: None})
    monkeypatch.setattr(file_download, "time", clock)
    with HubServer(repos={REPO: model_files()}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        huggingface_hub.close_session()
