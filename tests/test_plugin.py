"""What is registered with llm, and under which names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import llm
import pytest
from llm.plugins import pm

from llm_tiered.config.local_models import local_models
from llm_tiered.config.sections import Config
from llm_tiered.mlx.catalog import CATALOG
from llm_tiered.mlx.models import AsyncMlxModel, MlxModel
from llm_tiered.router.model import AsyncTieredModel, TieredModel
from tests.stand_in import AsyncStandIn, StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.toys import Toys

IDS = [spec.model_id for spec in CATALOG]
PLUGGY_WARNS = pytest.mark.filterwarnings("ignore:Argument.s. 'model_aliases':UserWarning")
ALIASES = [(alias, spec.model_id) for spec in CATALOG for alias in spec.aliases]


class OtherPlugin:
    """A plugin that registers one model."""

    def __init__(self, model_id: str, *aliases: str) -> None:
        self.model_id, self.aliases = model_id, aliases

    @llm.hookimpl
    def register_models(self, register: Callable[..., None]) -> None:
        """Register it."""
        register(StandIn(self.model_id), AsyncStandIn(self.model_id), aliases=self.aliases)


@pytest.fixture
def other(request: pytest.FixtureRequest) -> Iterator[None]:
    """Another plugin, with the id and the aliases that the test gives."""
    plugin = OtherPlugin(*request.param)
    pm.register(plugin)
    yield
    pm.unregister(plugin)


# What is registered


@pytest.mark.parametrize("model_id", IDS)
def test_catalog_is_registered(model_id: str) -> None:
    """Every model of the catalog is there, sync and async."""
    assert isinstance(llm.get_model(model_id), MlxModel)
    assert isinstance(llm.get_async_model(model_id), AsyncMlxModel)


@pytest.mark.parametrize(("alias", "model_id"), ALIASES)
def test_aliases_are_registered(alias: str, model_id: str) -> None:
    """Every alias of the catalog leads to its model, sync and async."""
    assert llm.get_model(alias).model_id == model_id
    assert llm.get_async_model(alias).model_id == model_id


def test_tiered_is_registered() -> None:
    """The virtual model is there, sync and async."""
    assert isinstance(llm.get_model("tiered"), TieredModel)
    assert isinstance(llm.get_async_model("tiered"), AsyncTieredModel)


def test_nothing_is_registered_twice() -> None:
    """No id comes twice, so none hides another."""
    ids = [model.model_id for model in llm.get_models()]
    assert [model_id for model_id in ids if ids.count(model_id) > 1] == []


def test_catalog_has_no_name_twice() -> None:
    """Every id and alias of the catalog means one model."""
    names = IDS + [alias for alias, _ in ALIASES]
    assert len(set(names)) == len(names)


def test_tiers_out_of_the_box_are_registered() -> None:
    """The models of the default tiers are known to llm, the cloud's too."""
    for tier in Config().tiers:
        assert llm.get_model(tier.model).model_id == tier.model


# Whose alias it is


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("other", [("elsewhere/one", "phi", "qwen")], indirect=True)
def test_alias_of_another_plugin_is_left_alone() -> None:
    """An alias that another plugin uses keeps its meaning; our other aliases work."""
    assert llm.get_model("phi").model_id == "elsewhere/one"
    assert llm.get_async_model("qwen").model_id == "elsewhere/one"
    assert llm.get_model("phi-3.5").model_id == "mlx/Phi-3.5-mini-instruct-4bit"


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("other", [("phi",)], indirect=True)
def test_id_of_another_plugin_is_left_alone() -> None:
    """A model whose id is one of our aliases can still be had by its id."""
    assert isinstance(llm.get_model("phi"), StandIn)
    assert isinstance(llm.get_async_model("phi"), AsyncStandIn)


@pytest.mark.parametrize("target", ["gemini/gemini-flash-latest", "mlx/Qwen3-4B-4bit"])
def test_alias_of_the_user_is_left_alone(user_path: Path, target: str) -> None:
    """An alias that the user set keeps its meaning, whichever plugin's model it is for."""
    (user_path / "aliases.json").write_text(json.dumps({"phi": target}))
    assert llm.get_model("phi").model_id == target
    assert llm.get_async_model("phi").model_id == target
    assert llm.get_model("phi-3.5").model_id == "mlx/Phi-3.5-mini-instruct-4bit"


def test_alias_of_the_user_that_is_ours_too(user_path: Path) -> None:
    """An alias that the user set to what it means anyway still works."""
    aliases = {"phi": "mlx/Phi-3.5-mini-instruct-4bit"}
    (user_path / "aliases.json").write_text(json.dumps(aliases))
    assert llm.get_model("phi").model_id == "mlx/Phi-3.5-mini-instruct-4bit"


# The user's models


def test_users_models_are_registered(config_file: Path) -> None:
    """The config's own models are there by id and alias, sync and async."""
    config_file.write_text(
        "models:\n"
        "- {id: my-folder, path: folder, aliases: [mine]}\n"
        "- {id: mlx/my-repo, repo: me/my-repo}\n"
    )
    folder = llm.get_model("mine")
    assert isinstance(folder, MlxModel)
    assert folder.model_id == "mlx/my-folder"
    assert folder.spec.path == config_file.parent / "folder"
    repository = llm.get_async_model("mlx/my-repo")
    assert isinstance(repository, AsyncMlxModel)
    assert repository.spec.repo == "me/my-repo"


def test_users_model_takes_the_place_of_ours(config_file: Path) -> None:
    """A model of the config with an id of the catalog is the only one of that id."""
    config_file.write_text("models: [{id: mlx/Qwen3-4B-4bit, repo: me/better}]")
    specs = [spec for spec in local_models() if spec.model_id == "mlx/Qwen3-4B-4bit"]
    assert [spec.repo for spec in specs] == ["me/better"]
    assert len(local_models()) == len(CATALOG)


def test_users_alias_wins_over_ours(config_file: Path) -> None:
    """An alias that the config gives to its own model is that model's."""
    config_file.write_text("models: [{id: mine, repo: me/mine, aliases: [phi]}]")
    assert llm.get_model("phi").model_id == "mlx/mine"


def test_alias_means_the_same_to_a_local_model(config_file: Path) -> None:
    """As a draft model, too, an alias is the config's own where it takes ours."""
    config_file.write_text("models: [{id: mine, repo: me/mine, aliases: [phi]}]")
    model = llm.get_model("qwen")
    assert isinstance(model, MlxModel)
    found = [model.find(name) for name in ("phi", "qwen", "mlx/mine", "nobody")]
    assert [spec and spec.model_id for spec in found] == [
        "mlx/mine",
        "mlx/Qwen2.5-7B-Instruct-4bit",
        "mlx/mine",
        None,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "tiers: [",
        "- nothing",
        "fallback: maybe",
        "models: all",
        "models: [{id: x}]",
        "models: [{id: x, path: ~nobody-of-that-name/x}]",
        "models: [{id: 2024-13-01, repo: a/b}]",
    ],
)
def test_broken_config_does_not_break_llm(config_file: Path, text: str) -> None:
    """Whatever the config says, llm starts, with our models and everybody else's."""
    config_file.write_text(text)
    ids = [model.model_id for model in llm.get_models()]
    assert {*IDS, "tiered", "gemini/gemini-flash-latest"} <= set(ids)
    assert "tiered" in [model.model_id for model in llm.get_async_models()]


@pytest.mark.parametrize("variable", ["FORCE_LOCAL_LLM", "COMPLEXITY_SMALL"])
def test_broken_environment_does_not_break_llm(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Whatever the environment says, llm starts."""
    monkeypatch.setenv(variable, "nonsense")
    assert {*IDS, "tiered"} <= {model.model_id for model in llm.get_models()}


# Finding a model


# Beside other plugins


@PLUGGY_WARNS
def test_registered_by_another_plugin(toys: Toys) -> None:
    """A plugin that calls the hook itself, with `register` alone, gets models that work."""
    models: list[llm.Model] = []

    def register(model: llm.Model, *_: object, **__: object) -> None:
        models.append(model)

    pm.hook.register_models(register=register)
    assert {*IDS, "tiered"} <= {model.model_id for model in models}
    assert models[-1].prompt("Hello", complexity=2).text() == "small answer"


@PLUGGY_WARNS
def test_collecting_costs_no_prompt_its_answer(toys: Toys) -> None:
    """A plugin that does so whenever llm asks for its models breaks no prompt."""

    class Collector:
        """It looks at the other plugins' models while it registers its own."""

        busy = False

        @llm.hookimpl
        def register_models(self, register: Callable[..., None]) -> None:
            """Look, once at a time."""
            if not self.busy:
                self.busy = True
                pm.hook.register_models(register=lambda *_, **__: None)
                self.busy = False

    plugin = Collector()
    pm.register(plugin)
    try:
        assert llm.get_model("tiered").prompt("Hello", complexity=2).text() == "small answer"
    finally:
        pm.unregister(plugin)
