"""What the hub, its address or a repository can have wrong, told with a way out."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.errors import DownloadError, ModelUnavailable
from llm_tiered.mlx.weights import hub
from tests.hub_server import REPO

if TYPE_CHECKING:
    from tests.hub_server import HubServer

pytest_plugins = ("tests.mlx.weights.local_hub",)


@pytest.mark.parametrize("ask", [hub.model_bytes, hub.download])
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "private, gated or does not exist.*hf auth login"),
        (403, "private, gated or does not exist.*hf auth login"),
        (404, r"has no repository tiny/model \(check the name\)"),
        (500, "HTTP status 500 .*try again later"),
    ],
)
def test_says_why_the_hub_refuses(
    server: HubServer, token: str, ask: Any, status: int, message: str
) -> None:
    """Each refusal comes with its reason and a way out, and never with the token."""
    server.status = status
    with pytest.raises(DownloadError, match=message) as caught:
        ask(REPO)
    assert token not in str(caught.value)


def test_says_that_there_is_no_such_repository(server: HubServer) -> None:
    """A name the hub does not know is told as that."""
    with pytest.raises(DownloadError, match=r"has no repository no/such-model"):
        hub.download("no/such-model")


@pytest.mark.parametrize("repo", ["not/a/name", "a b", "https://huggingface.co/tiny/model"])
def test_says_what_a_repository_is_called(server: HubServer, repo: str) -> None:
    """What can't be a repository is told without asking the hub."""
    with pytest.raises(DownloadError, match="write it as owner/name"):
        hub.model_bytes(repo)
    assert not server.requests


def test_says_that_a_repository_has_nothing_for_mlx(server: HubServer) -> None:
    """A repository without safetensors is told before anything is fetched."""
    server.repos[REPO] = {"config.json": b"{}", "model.gguf": b"GGUF"}
    with pytest.raises(DownloadError, match=r"no weights for MLX \(model\*\.safetensors\)"):
        hub.download(REPO)


def test_says_what_the_model_lacks_after_all(server: HubServer) -> None:
    """What came is looked at: a model without a tokenizer is no success."""
    del server.repos[REPO]["tokenizer.json"]
    with pytest.raises(ModelUnavailable, match="has no tokenizer"):
        hub.download(REPO)


def test_says_that_something_else_answered(server: HubServer) -> None:
    """A page of HTML where the hub should be is told as that."""
    server.page = True
    with pytest.raises(DownloadError, match="does not answer like a Hugging Face hub"):
        hub.model_bytes(REPO)


def test_commit_that_is_a_path(server: HubServer) -> None:
    """A commit that is not a hash is refused: it would become a path."""
    server.commit = "../../elsewhere"
    with pytest.raises(DownloadError, match="does not answer like a Hugging Face hub"):
        hub.download(REPO)


def test_says_that_the_hub_is_out_of_reach(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that does not answer is named, without the password in its address."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://me:secret@127.0.0.1:{port}")
    for ask in (hub.model_bytes, hub.download):
        with pytest.raises(DownloadError, match=f"127.0.0.1:{port} can't be reached") as caught:
            ask(REPO)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["nonsense", "http://[", "http://127.0.0.1:99999"])
def test_says_that_the_address_is_wrong(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    """An HF_ENDPOINT that is no address is told as that."""
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(DownloadError, match="HF_ENDPOINT"):
        hub.model_bytes(REPO)


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_stays_offline_when_told(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With the variable set the hub is not asked, though the library was imported before."""
    assert not hub.offline()
    monkeypatch.setenv(name, "1")
    assert hub.offline()
    for ask in (hub.model_bytes, hub.download):
        with pytest.raises(DownloadError, match="forbids the network"):
            ask(REPO)
    assert not server.requests
