"""What is registered with llm: our models, and a view of everybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config import file as config_file
from ..errors import ConfigError, ModelUnavailable
from ..mlx.catalog import CATALOG, ModelSpec
from ..mlx.models import AsyncMlxModel, MlxModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llm.models import ModelWithAliases

    from ..config.user_models import UserModel
    from ..mlx.engine.requests import Limits
    from .inner import AsyncInner, Inner


class Registry:
    """The models that llm knows, by id and alias.

    It looks at llm's own list: asking llm again would register every plugin's models once more.
    """

    def __init__(self, models: list[ModelWithAliases]) -> None:
        self._models = models

    def __contains__(self, name: str) -> bool:
        return self._entry(name) is not None

    def get(self, name: str) -> Inner:
        """The model with that id or alias. Raises ModelUnavailable if there is none."""
        entry = self._entry(name)
        if entry is None:
            raise self._unknown(name)
        return entry.model

    def get_async(self, name: str) -> AsyncInner:
        """The async model with that id or alias. Raises ModelUnavailable if there is none."""
        entry = self._entry(name)
        if entry is None:
            raise self._unknown(name)
        if entry.async_model is None:
            raise ModelUnavailable("its plugin has no async version of it")
        return entry.async_model

    def _unknown(self, name: str) -> ModelUnavailable:
        from difflib import get_close_matches

        ids = list(self._ids())
        if name.startswith("gemini/") and not any(id_.startswith("gemini/") for id_ in ids):
            return ModelUnavailable("llm-gemini is not installed", fix="llm install llm-gemini")
        if name == "tiered":
            return ModelUnavailable("a tier can't be tiered itself", fix=self._correct())
        near = get_close_matches(name, ids, n=1)
        meant = f", did you mean {near[0]}?" if near else ""
        return ModelUnavailable(f"llm knows no such model{meant}", fix=self._correct())

    def _correct(self) -> str:
        return f"correct it in {config_file.config_path()}"

    def _ids(self) -> Iterator[str]:
        for entry in self._models:
            yield entry.model.model_id
            yield from entry.aliases

    def _entry(self, name: str) -> ModelWithAliases | None:
        # llm lets the last one win, ids before aliases of the same registration.
        for entry in reversed(self._models):
            if entry.model and (entry.model.model_id == name or name in entry.aliases):
                # A tier that asks `tiered` would go round in circles.
                return None if entry.model.model_id == "tiered" else entry
        return None


def local_models() -> tuple[ModelSpec, ...]:
    """The catalog, and what the config adds to it or puts in its place."""
    specs = {spec.model_id: spec for spec in CATALOG}
    for model in _declared():
        specs[model.id] = ModelSpec(
            model_id=model.id,
            repo=model.repo,
            path=model.path,
            aliases=model.aliases,
            adapter=model.adapter,
        )
    return tuple(specs.values())


def register(register: Callable[..., None], models: list[ModelWithAliases]) -> None:
    """Register the local models and `tiered` with llm.

    An alias that already means something, to another plugin or to the user, keeps its meaning.
    """
    from .model import AsyncTieredModel, TieredModel

    taken = set(config_file.user_aliases())
    for entry in models:
        taken |= {entry.model.model_id, *entry.aliases}
    for spec in local_models():
        aliases = [alias for alias in spec.aliases if alias not in taken]
        parts = (spec, _limits, _find_local)
        register(MlxModel(*parts), AsyncMlxModel(*parts), aliases=aliases)
    registry = Registry(models)
    register(TieredModel(registry), AsyncTieredModel(registry))


def _declared() -> tuple[UserModel, ...]:
    try:
        lines = config_file.read(config_file.config_path()).splitlines()
    except ConfigError:
        return ()
    # llm starts no slower for those who add none: to understand the file takes a while.
    if not any("models" in line for line in lines if not line.lstrip().startswith("#")):
        return ()
    from ..config.user_models import declared_models

    return declared_models()


def _find_local(name: str) -> ModelSpec | None:
    # As with llm, the last one wins.
    for spec in reversed(local_models()):
        if name == spec.model_id or name in spec.aliases:
            return spec
    return None


def _limits() -> Limits:
    from ..config import settings as config
    from ..mlx.engine.requests import Limits

    settings = config.load().config
    return Limits(memory=settings.memory_limit, kv_disk=settings.kv_disk)
