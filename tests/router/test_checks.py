"""What is known of a model before it is tried: its capabilities, its files, its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
import llm_gemini
import pytest

from llm_tiered.config.sections import Config
from llm_tiered.errors import ModelUnavailable, RequestError
from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import AsyncMlxModel, MlxModel
from llm_tiered.router.checks import check
from tests.stand_in import StandIn

if TYPE_CHECKING:
    from pathlib import Path

PNG = llm.Attachment(type="image/png", content=b"not looked at")
SETTINGS = Config()


class Model(StandIn):
    """A model that supports only text unless a test says otherwise."""

    server_side_tools: tuple[type[llm.ServerSideTool], ...] = ()

    @property
    def supported_server_side_tools(self) -> tuple[type[llm.ServerSideTool], ...]:
        """The tools that the test set."""
        return self.server_side_tools


@pytest.fixture
def model() -> Model:
    """A model that supports only text."""
    return Model("toy")


def prompt(model: Any, **fields: Any) -> llm.Prompt:
    """A prompt with these fields."""
    return llm.Prompt("Hello", model=model, **fields)


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def test_text(model: Model) -> None:
    """Every model supports text."""
    check(model, prompt(model, system="Be brief."), SETTINGS, None)


def test_schema(model: Model) -> None:
    """A schema needs a model that supports schemas."""
    asked = prompt(model, schema={"type": "object"})
    with pytest.raises(RequestError, match=r"^can't do schemas$"):
        check(model, asked, SETTINGS, None)
    model.supports_schema = True
    check(model, asked, SETTINGS, None)


def test_tools(model: Model) -> None:
    """Tools need a model that supports tools."""
    asked = prompt(model, tools=[double])
    with pytest.raises(RequestError, match=r"^can't do tools$"):
        check(model, asked, SETTINGS, None)
    model.supports_tools = True
    check(model, asked, SETTINGS, None)


def test_server_side_tool(model: Model) -> None:
    """A server-side tool needs a model that offers exactly that tool."""
    asked = prompt(model, tools=[llm_gemini.GoogleSearch()])
    model.supports_tools = True
    model.server_side_tools = (llm_gemini.URLContext,)
    with pytest.raises(RequestError, match=r"^has no server-side tool GoogleSearch$"):
        check(model, asked, SETTINGS, None)
    model.supports_tools = False
    model.server_side_tools = (llm_gemini.GoogleSearch,)
    check(model, asked, SETTINGS, None)


def test_both_kinds_of_tools(model: Model) -> None:
    """A server-side tool beside a function needs a model that supports both."""
    asked = prompt(model, tools=[llm_gemini.GoogleSearch(), double])
    model.server_side_tools = (llm_gemini.GoogleSearch,)
    with pytest.raises(RequestError, match=r"^can't do tools$"):
        check(model, asked, SETTINGS, None)
    model.supports_tools = True
    check(model, asked, SETTINGS, None)


def test_raw_server_side_tool(model: Model) -> None:
    """A model that accepts raw tool specifications still refuses another service's tools."""
    model.server_side_tools = (llm.ServerSideTool,)
    raw = llm.ServerSideTool({"type": "web_search"})
    check(model, prompt(model, tools=[raw]), SETTINGS, None)
    with pytest.raises(RequestError, match=r"^has no server-side tool GoogleSearch$"):
        check(model, prompt(model, tools=[llm_gemini.GoogleSearch()]), SETTINGS, None)


def test_attachment(model: Model) -> None:
    """An attachment needs a model that accepts its type."""
    asked = prompt(model, attachments=[PNG])
    with pytest.raises(RequestError, match=r"^can't read attachments$"):
        check(model, asked, SETTINGS, None)
    model.attachment_types = {"application/pdf"}
    with pytest.raises(RequestError, match=r"^can't read attachments of type image/png$"):
        check(model, asked, SETTINGS, None)
    model.attachment_types = {"image/png"}
    check(model, asked, SETTINGS, None)


def test_attachment_of_an_earlier_turn(model: Model) -> None:
    """An attachment earlier in the conversation needs such a model, too."""
    history = [llm.user("What?", PNG), llm.assistant("A dot"), llm.user("Sure?")]
    asked = llm.Prompt("Sure?", model=model, messages=history)
    with pytest.raises(RequestError, match=r"^can't read attachments$"):
        check(model, asked, SETTINGS, None)


def test_no_needless_look_at_attachments(model: Model, connections: list[Any]) -> None:
    """A model without attachment support is ruled out without looking up the attachment."""
    asked = prompt(model, attachments=[llm.Attachment(url="https://example.com/dot.png")])
    with pytest.raises(RequestError, match=r"^can't read attachments$"):
        check(model, asked, SETTINGS, None)
    assert connections == []


def test_attachment_that_cannot_be_looked_up(model: Model) -> None:
    """An attachment of unknown type rules the model out, and the reason names it."""
    model.attachment_types = {"image/png"}
    asked = prompt(model, attachments=[llm.Attachment(url="https://example.com/dot.png")])
    with pytest.raises(RequestError, match=r"example\.com/dot\.png"):
        check(model, asked, SETTINGS, None)


def test_attachment_that_is_not_there(model: Model) -> None:
    """A missing file is named."""
    model.attachment_types = {"image/png"}
    asked = prompt(model, attachments=[llm.Attachment(path="/nowhere/dot.png")])
    with pytest.raises(RequestError, match=r"/nowhere/dot\.png: the file is missing"):
        check(model, asked, SETTINGS, None)


def test_key(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that needs a key accepts the request's, or the one stored in llm."""
    model.needs_key, model.key_env_var = "toy", "TOY_KEY"
    with pytest.raises(llm.NeedsKeyException, match="llm keys set toy"):
        check(model, prompt(model), SETTINGS, None)
    check(model, prompt(model), SETTINGS, "key")
    monkeypatch.setenv("TOY_KEY", "key")
    check(model, prompt(model), SETTINGS, None)


def test_unreadable_keys(model: Model, user_path: Path) -> None:
    """An unreadable keys.json is named."""
    model.needs_key = "toy"
    (user_path / "keys.json").write_text("{")
    with pytest.raises(ModelUnavailable, match=r"keys\.json is not JSON"):
        check(model, prompt(model), SETTINGS, None)


@pytest.mark.parametrize("kind", [MlxModel, AsyncMlxModel])
def test_local_model(
    kind: type[MlxModel] | type[AsyncMlxModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A local model must be on disk and fit in memory; it needs no key."""
    model = kind(ModelSpec("mlx/nowhere", path=tmp_path / "nowhere"), Limits, lambda _: None)
    with pytest.raises(ModelUnavailable, match="nowhere"):
        check(model, prompt(model), SETTINGS, "key")
    asked: list[bool] = []
    monkeypatch.setattr(model, "check", lambda *, allow_cpu: asked.append(allow_cpu))
    check(model, prompt(model), SETTINGS, None)
    check(model, prompt(model), Config(allow_cpu=True), None)
    assert asked == [False, True]


def test_lacking_before_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A missing capability is reported before the model's files are looked at."""
    model = MlxModel(ModelSpec("mlx/nowhere", path=tmp_path / "nowhere"), Limits, lambda _: None)
    model.attachment_types = frozenset()
    with pytest.raises(RequestError, match=r"^can't read attachments$"):
        check(model, prompt(model, attachments=[PNG]), SETTINGS, None)
