"""Looking up the models that llm knows, by id and alias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from llm.models import ModelWithAliases

from llm_tiered.errors import ModelUnavailable
from llm_tiered.router.registry import Registry
from llm_tiered.router.threads import ThreadedModel
from tests.stand_in import AsyncStandIn, StandIn
from tests.toys import TIERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.toys import Toys


def _entry(model_id: str, *aliases: str, sync_only: bool = False) -> ModelWithAliases:
    async_model: Any = None if sync_only else AsyncStandIn(model_id)
    return ModelWithAliases(StandIn(model_id), async_model, set(aliases))


def test_get_by_id_and_alias() -> None:
    """A model is found by its id and by its aliases, sync and async."""
    registry = Registry([_entry("one", "1", "uno"), _entry("two", "2")])
    for name in ("one", "1", "uno"):
        assert name in registry
        assert registry.get(name).model_id == "one"
        assert registry.get_async(name).model_id == "one"


def test_last_registration_wins() -> None:
    """Of two models with the same name the last one counts, as in llm itself."""
    first, last = _entry("one", "same"), _entry("two", "same")
    assert Registry([first, last]).get("same") is last.model
    assert Registry([_entry("one"), _entry("two", "one")]).get("one").model_id == "two"


def test_list_that_grows_is_seen() -> None:
    """A model that is registered later is found, too: the list is llm's own."""
    entries: list[ModelWithAliases] = []
    registry = Registry(entries)
    assert "one" not in registry
    entries.append(_entry("one"))
    assert registry.get("one").model_id == "one"


@pytest.mark.parametrize("find", [Registry.get, Registry.get_async])
def test_misspelt_model(user_path: Path, find: Callable[[Registry, str], Any]) -> None:
    """An unknown name is reported with the nearest one and the file to correct."""
    registry = Registry([_entry("gemini/gemini-flash-latest"), _entry("mlx/Qwen3-4B-4bit")])
    with pytest.raises(ModelUnavailable) as caught:
        find(registry, "gemini/gemini-flash-latst")
    assert caught.value.message == (
        "llm knows no such model, did you mean gemini/gemini-flash-latest?"
    )
    assert caught.value.fix == f"correct it in {user_path / 'tiered' / 'config.yaml'}"


def test_misspelt_alias() -> None:
    """The nearest name may be an alias."""
    with pytest.raises(ModelUnavailable, match="did you mean qwen3\\?"):
        Registry([_entry("mlx/x", "qwen3")]).get("qwem3")


def test_model_like_no_other() -> None:
    """A name that resembles nothing is reported without a guess."""
    with pytest.raises(ModelUnavailable) as caught:
        Registry([_entry("one")]).get("zzz")
    assert caught.value.message == "llm knows no such model"


@pytest.mark.parametrize("find", [Registry.get, Registry.get_async])
def test_missing_llm_gemini(find: Callable[[Registry, str], Any]) -> None:
    """If llm knows no Gemini model, the missing plugin is named."""
    with pytest.raises(ModelUnavailable) as caught:
        find(Registry([_entry("mlx/one")]), "gemini/gemini-flash-latest")
    assert str(caught.value) == "llm-gemini is not installed (llm install llm-gemini)"


def test_model_without_async_version() -> None:
    """A model that its plugin offers only for sync use runs in a thread."""
    registry = Registry([_entry("one", sync_only=True)])
    assert registry.get("one").model_id == "one"
    assert isinstance(registry.get_async("one"), ThreadedModel)


def test_alias_does_not_replace_a_server(toys: Toys) -> None:
    """An alias that looks like a server's model is not asked in its place, sync or async."""
    medium = {"model": "big", "server": "http://127.0.0.1:1"}
    toys.configure(tiers=[TIERS[0], TIERS[1] | medium, TIERS[2]])
    name = "server/medium/big"
    registry = Registry([_entry("elsewhere", name)])
    assert registry.get(name).model_id == name
    assert registry.get_async(name).model_id == name
