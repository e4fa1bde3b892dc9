"""The keys of several providers behind `tiered`: who gets which, and that nobody sees them."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.plugins import pm

from tests import gemini
from tests.cli.batching import batch, write_rows
from tests.cli.commands import run
from tests.toys import TIERS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys

CLAUDE = "claude-of-nobody"
VARIABLE = "CLAUDE_CREDENTIAL"
OWN = "sk-ant-" + "api03-own-0123456789abcdef"
GIVEN = "given-key-0a1b2c3d4e5f"


class Claude:
    """Another provider. Its models put the key that they get into their errors."""

    model_id = CLAUDE
    needs_key = "claude"
    key_env_var = VARIABLE
    can_stream = True

    def __init__(self, received: list[str | None], error: Exception | None) -> None:
        self._received = received
        self._error = error

    def _answer(self, key: str | None) -> str:
        self._received.append(key)
        if self._error:
            raise type(self._error)(str(self._error).format(key))
        return "claude's answer"


class SyncClaude(Claude, llm.KeyModel):  # type: ignore[misc]  # llm declares attributes
    """The sync version."""

    def execute(
        self, prompt: Any, stream: bool, response: Any, conversation: Any, key: str | None
    ) -> Iterator[str]:
        """Answer, or fail."""
        yield self._answer(key)


class AsyncClaude(Claude, llm.AsyncKeyModel):  # type: ignore[misc]  # as above
    """The async version."""

    async def execute(
        self, prompt: Any, stream: bool, response: Any, conversation: Any, key: str | None
    ) -> AsyncGenerator[str, None]:
        """Answer, or fail."""
        yield self._answer(key)


class Provider:
    """The plugin: `received` are the keys that its models were called with."""

    __name__ = "provider"

    def __init__(self) -> None:
        self.received: list[str | None] = []
        self.error: Exception | None = None

    @llm.hookimpl
    def register_models(self, register: Callable[..., None]) -> None:
        """Register the models with llm."""
        models = (SyncClaude(self.received, self.error), AsyncClaude(self.received, self.error))
        register(*models)


@pytest.fixture
def provider(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """Another provider in a tier above Gemini's, with a key of its own in a variable."""
    toys.configure(
        tiers=[
            *TIERS[:2],
            {"name": "cloud", "complexity": "8-9", "model": gemini.MODEL},
            {"name": "top", "complexity": "10", "model": CLAUDE},
        ]
    )
    monkeypatch.setenv(VARIABLE, OWN)
    plugin = Provider()
    pm.register(plugin, name="provider")
    yield plugin
    pm.unregister(plugin)


def sent_keys(mock: HTTPXMock) -> list[str]:
    """The keys that Google got."""
    return [request.headers["x-goog-api-key"] for request in mock.get_requests()]


async def test_key_goes_to_the_decided_provider(
    ask: Ask, provider: Provider, httpx_mock: HTTPXMock
) -> None:
    """A fallback to another provider uses that provider's own key."""
    gemini.BAD_REQUEST.answer(httpx_mock)
    await ask("Say hello", complexity=8, key=GIVEN)
    assert (sent_keys(httpx_mock), provider.received) == ([GIVEN], [OWN])
    provider.error = llm.ModelError("no")
    ask.__dict__.pop("model", None)
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Say hello", complexity=10, key=GIVEN)
    assert sent_keys(httpx_mock)[1:] == [gemini.KEY]
    assert provider.received[1:] == [GIVEN]


async def test_key_goes_to_the_provider_it_names(
    ask: Ask, provider: Provider, httpx_mock: HTTPXMock, user_path: Path
) -> None:
    """The name of a stored key is for the models that need it, whatever was decided."""
    (user_path / "keys.json").write_text(json.dumps({"claude": GIVEN}))
    gemini.BAD_REQUEST.answer(httpx_mock)
    await ask("Say hello", complexity=8, key="claude")
    assert (sent_keys(httpx_mock), provider.received) == ([gemini.KEY], [GIVEN])


async def test_key_with_a_local_tier(
    ask: Ask, toys: Toys, provider: Provider, httpx_mock: HTTPXMock
) -> None:
    """Where several providers could be meant, a key for a local tier reaches none of them."""
    toys.small.does = toys.medium.does = [RuntimeError("it broke")]
    gemini.BAD_REQUEST.answer(httpx_mock)
    response = await ask("Say hello", complexity=2, key=GIVEN)
    assert response.text_or_raise() == "claude's answer"
    assert (sent_keys(httpx_mock), provider.received) == ([gemini.KEY], [OWN])


@pytest.mark.parametrize("key", [None, GIVEN])
async def test_keys_are_not_shown(  # noqa: PLR0913, PLR0917 - fixtures
    ask: Ask,
    provider: Provider,
    logged: Callable[[], list[dict[str, Any]]],
    logs: Path,
    caplog: pytest.LogCaptureFixture,
    key: str | None,
) -> None:
    """A key that another provider repeats is in no warning, no error, and not in the log."""
    provider.error = llm.ModelError("unauthorized: {} is wrong")
    with caplog.at_level(logging.DEBUG):
        response = await ask("Say hello", complexity=10, key=key, fallback="local")
        with pytest.raises(llm.ModelError) as error:
            await ask("Say hello", complexity=10, key=f"{key or ''}-2-0a1b2c3d", fallback="none")
    assert provider.received[0] == (key or OWN)
    shown = caplog.text + str(error.value) + json.dumps(response.response_json)
    assert "unauthorized: [key] is wrong" in shown
    assert f"llm keys set claude, or {VARIABLE}" in str(error.value)
    assert len(logged()) == 1
    for secret in filter(None, provider.received):
        assert secret not in shown
        assert secret.encode() not in logs.read_bytes()


@pytest.mark.parametrize("name", ["tiered", CLAUDE])
def test_keys_are_not_in_a_batch(provider: Provider, tmp_path: Path, name: str) -> None:
    """A key that a provider repeats is neither in a batch's output nor on stderr."""
    provider.error = RuntimeError("{} is wrong")
    rows = write_rows(
        tmp_path, {"prompt": "Hello"} | ({"complexity": 10} if name == "tiered" else {})
    )
    output = tmp_path / "out.jsonl"
    options = ("--option", "fallback", "none") if name == "tiered" else ()
    result = batch(rows, "-m", name, "-o", str(output), *options, code=1)
    written = [path.read_text() for path in tmp_path.iterdir()]
    assert "[key] is wrong" in result.stderr
    assert OWN not in "".join([result.output, *written])


def test_keys_are_not_in_reports(provider: Provider, tmp_path: Path) -> None:
    """A key that a provider repeats is not in a comparison or an evaluation."""
    provider.error = RuntimeError("{} is wrong")
    page = tmp_path / "page.html"
    compared = run("compare", "Hello", "--tiers", "top", "--html", str(page), code=1)
    suite = write_rows(tmp_path, {"prompt": "Hello", "contains": "Hello"}, name="suite.jsonl")
    evaluated = run("eval", suite, "--tiers", "top", "--yes", code=1)
    shown = compared.output + evaluated.output + (page.read_text() if page.exists() else "")
    assert "[key] is wrong" in shown
    assert OWN not in shown
