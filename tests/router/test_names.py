"""Names that two plugins have: which model answers is said, never changed without a word."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import llm
import pytest
from click.testing import CliRunner
from llm.cli import cli
from llm.plugins import pm

from llm_tiered.router import names
from llm_tiered.router.plugins import plugin_of
from tests.stand_in import AsyncStandIn, StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.toys import Ask, Toys

PHI = "mlx/Phi-3.5-mini-instruct-4bit"


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No warning has been given."""
    monkeypatch.setattr(names, "_given", set())
    monkeypatch.setattr(names, "_seen", None)


class Theirs(StandIn):
    """A model of another package."""

    __module__ = "llm_theirs.models"


class Earlier:
    """A plugin whose models are registered before those of llm-tiered."""

    def __init__(self, model_id: str, *aliases: str) -> None:
        self.model_id, self.aliases = model_id, aliases

    @llm.hookimpl
    def register_models(self, register: Callable[..., None]) -> None:
        """Register it."""
        register(Theirs(self.model_id), AsyncStandIn(self.model_id), aliases=self.aliases)


class Later(Earlier):
    """A plugin whose models are registered after those of llm-tiered."""

    @llm.hookimpl(wrapper=True)
    def register_models(self, register: Callable[..., None]) -> Any:
        """Register it after all others."""
        others = yield
        register(Theirs(self.model_id), AsyncStandIn(self.model_id), aliases=self.aliases)
        return others


@contextmanager
def installed(plugin: Earlier) -> Iterator[None]:
    """With this plugin, too."""
    pm.register(plugin)
    try:
        yield
    finally:
        pm.unregister(plugin)


def status() -> list[str]:
    """The conflicts that `llm tiered status` shows."""
    result = CliRunner().invoke(cli, ["tiered", "status", "--json"], catch_exceptions=False)
    conflicts: list[str] = json.loads(result.output)["names"]
    shown = CliRunner().invoke(cli, ["tiered", "status"]).output
    assert all(f"name: {conflict}\n" in shown for conflict in conflicts)
    return conflicts


@pytest.mark.parametrize("kind", [Earlier, Later])
def test_alias(kind: type[Earlier]) -> None:
    """An alias that means another plugin's model is named."""
    with installed(kind("theirs/phi", "phi")):
        assert llm.get_model("phi").model_id == "theirs/phi"
        assert status() == [f"'phi' means theirs/phi of llm-theirs, not {PHI} of llm-tiered"]


@pytest.mark.parametrize(
    ("kind", "who", "other"),
    [(Earlier, "llm-tiered", "llm-theirs"), (Later, "llm-theirs", "llm-tiered")],
)
def test_id(kind: type[Earlier], who: str, other: str) -> None:
    """An id that two plugins have is named, whichever of them it means."""
    with installed(kind(PHI)):
        assert plugin_of(llm.get_model(PHI)) == who
        assert status() == [f"'{PHI}' means {PHI} of {who}, not {PHI} of {other}"]


def test_no_conflict(user_path: Path) -> None:
    """The plugin alone has none, and what the user chose is none."""
    assert status() == []
    (user_path / "aliases.json").write_text(json.dumps({"phi": "gemini/gemini-flash-latest"}))
    assert status() == []


@pytest.mark.parametrize("kind", [Earlier, Later])
def test_verify(kind: type[Earlier], config_file: Path) -> None:
    """`llm tiered verify` warns of it."""
    config_file.write_text("keep_warm: 0")

    def line() -> str:
        shown = CliRunner().invoke(cli, ["tiered", "verify"]).output.splitlines()
        return next(each for each in shown if "names: " in each)

    assert line().startswith("ok")
    with installed(kind("theirs/phi", "phi")):
        assert line().startswith("warn  names: 'phi' means theirs/phi of llm-theirs")


@pytest.mark.parametrize("name", ["tiered", "mlx/toy-small"])
async def test_warning(ask: Ask, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """A request whose model has a name of another plugin's warns of it, once."""
    with installed(Earlier(name, "phi")):
        for _ in range(2):
            await ask("Hello", complexity=2)
    [warning] = [each for each in caplog.messages if " means " in each]
    assert warning.startswith(f"{name!r} means {name} of ")


def test_tiered_of_another_plugin(toys: Toys) -> None:
    """If `tiered` means another plugin's model, our commands say so."""
    toys.configure(keep_warm=0)
    with installed(Later("tiered")):
        result = CliRunner().invoke(cli, ["tiered", "verify"])
    assert result.exit_code == 1
    assert "'tiered' means a model of llm-theirs → llm uninstall llm-theirs" in result.output
