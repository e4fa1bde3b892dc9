"""The library follows the environment; errors of the hub and of the disk come with a fix."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from huggingface_hub import constants

from llm_tiered.errors import DownloadError, ModelUnavailable
from llm_tiered.mlx.weights import hub
from llm_tiered.mlx.weights.huggingface import offline
from tests.hub_server import REPO

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hub_server import HubServer

pytest_plugins = ("tests.mlx.weights.local_hub",)

DENIED = "denies access to tiny/model: it is private, gated or does not exist"


@pytest.mark.parametrize("ask", [hub.model_bytes, hub.download])
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, f"{DENIED}.*hf auth login"),
        (403, f"{DENIED}.*hf auth login"),
        (404, r"has no repository tiny/model \(check the name\)"),
        (500, "HTTP status 500 .*try again later"),
    ],
)
def test_refusal(server: HubServer, token: str, ask: Any, status: int, message: str) -> None:
    """A refusal comes with its reason and a fix, and never with the token."""
    server.status = status
    with pytest.raises(DownloadError, match=message) as caught:
        ask(REPO)
    assert token not in str(caught.value)


def test_unknown_repository(server: HubServer) -> None:
    """The error for a repository that the hub does not have names it."""
    with pytest.raises(DownloadError, match=r"has no repository no/such-model"):
        hub.download("no/such-model")


@pytest.mark.parametrize("repo", ["not/a/name", "a b", "https://huggingface.co/tiny/model"])
def test_invalid_name(server: HubServer, repo: str) -> None:
    """A name that can't be a repository's is an error without a request to the hub."""
    with pytest.raises(DownloadError, match="write it as owner/name"):
        hub.model_bytes(repo)
    assert not server.requests


def test_repository_without_mlx_weights(server: HubServer) -> None:
    """A repository without safetensors is an error before anything is fetched."""
    server.repos[REPO] = {"config.json": b"{}", "model.gguf": b"GGUF"}
    with pytest.raises(DownloadError, match=r"no weights for MLX \(model\*\.safetensors\)"):
        hub.download(REPO)


def test_incomplete_repository(server: HubServer) -> None:
    """The downloaded files are inspected: a model without a tokenizer is an error."""
    del server.repos[REPO]["tokenizer.json"]
    with pytest.raises(ModelUnavailable, match="has no tokenizer"):
        hub.download(REPO)


def test_answer_that_is_not_the_hubs(server: HubServer) -> None:
    """An HTML page in place of the hub's answer is an error that says so."""
    server.page = True
    with pytest.raises(DownloadError, match="does not answer like a Hugging Face hub"):
        hub.model_bytes(REPO)


def test_commit_that_is_a_path(server: HubServer) -> None:
    """A commit that is not a hash is an error, because it would become a path."""
    server.commit = "../../elsewhere"
    with pytest.raises(DownloadError, match="does not answer like a Hugging Face hub"):
        hub.download(REPO)


def test_unreachable_hub(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a hub that can't be reached names it without the password in its address."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://me:secret@127.0.0.1:{port}")
    for ask in (hub.model_bytes, hub.download):
        with pytest.raises(DownloadError, match=f"127.0.0.1:{port} can't be reached") as caught:
            ask(REPO)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["nonsense", "http://[", "http://127.0.0.1:99999"])
def test_invalid_address(server: HubServer, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """The error for an HF_ENDPOINT that is not an address names the variable."""
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(DownloadError, match="HF_ENDPOINT"):
        hub.model_bytes(REPO)


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline(server: HubServer, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With the variable set, the hub is not asked, even if the library was imported before."""
    assert not offline()
    monkeypatch.setenv(name, "1")
    assert offline()
    for ask in (hub.model_bytes, hub.download):
        with pytest.raises(DownloadError, match="forbids the network"):
            ask(REPO)
    assert not server.requests


def test_full_disk(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk fills up during a download, the error says what to do."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", fail)
    with pytest.raises(DownloadError, match=r"No space left on device \(free some space there"):
        hub.download(REPO)


def test_cache_that_is_not_a_folder(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error for a cache that can't be written to names it."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DownloadError, match=r"can't be written to .*/file/cache"):
        hub.download(REPO)


def test_follows_the_environment_to_the_cache(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_HUB_CACHE overrides HF_HOME, even if it is set after the library was imported."""
    assert hub.download(REPO).is_relative_to(tmp_path / "hf" / "hub")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "other"))
    assert hub.find(REPO) is None
    assert hub.download(REPO).is_relative_to(tmp_path / "other")


def test_goes_online_again(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was started offline can download once the variable is unset."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = hub.download(REPO)
    assert hub.find(REPO) == folder
