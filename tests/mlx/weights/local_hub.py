"""A hub on this machine, for tests that download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import huggingface_hub
import pytest

from tests.hub_server import REPO, HubServer, model_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the user's token for the hub."""
    token = "hf_a_token_that_stays_secret"
    monkeypatch.setenv("HF_TOKEN", token)
    return token


@pytest.fixture
def server(tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Give a hub with one model, and an empty cache."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with HubServer(repos={REPO: model_files()}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        huggingface_hub.close_session()
