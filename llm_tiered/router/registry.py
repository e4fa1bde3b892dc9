"""The models that llm knows, and those of the tiers' servers, looked up by id or alias."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config.settings import load_settings
from ..config.terms import SERVER_PREFIX
from ..endpoints.models import AsyncServerModel, ServerModel
from ..errors import ModelUnavailable
from ..paths import config_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm.models import ModelWithAliases

    from ..config.tiers import Tier
    from .inner import AsyncInner, Inner


def _tier_of(name: str) -> Tier | None:
    """The tier whose server's model has this id, or None. Raises ConfigError."""
    if not name.startswith(SERVER_PREFIX):
        return None
    return next(
        (tier for tier in load_settings().tiers if tier.server and tier.model_id == name), None
    )


class Registry:
    """The models that llm knows, by id and alias, and those of the servers in the config.

    This reads llm's own list, because asking llm again would register all plugins' models again.
    """

    def __init__(self, models: list[ModelWithAliases]) -> None:
        self._models = models
        self._number = len(models)

    def __eq__(self, other: object) -> bool:
        """Whether the other one has the same models: llm's list only grows."""
        if not isinstance(other, Registry):
            return NotImplemented
        return self._models is other._models and self._number == other._number

    __hash__ = None  # type: ignore[assignment]  # the list may grow

    def __contains__(self, name: str) -> bool:
        return _tier_of(name) is not None or self._entry(name) is not None

    def get(self, name: str) -> Inner:
        """The model with that id or alias. Raises ModelUnavailable if there is none."""
        if tier := _tier_of(name):
            return ServerModel(tier)
        return self._find(name).model

    def get_async(self, name: str) -> AsyncInner:
        """The async model with that id or alias, in a thread if there is only a sync one.

        Raises ModelUnavailable if there is none.
        """
        if tier := _tier_of(name):
            entry = self._entry(name)
            # A batch registers the tiers' models with its limits; all else is an alias like theirs.
            if entry and entry.async_model and isinstance(entry.model, ServerModel):
                return entry.async_model
            return AsyncServerModel(tier)
        entry = self._find(name)
        if entry.async_model is None:
            from .threads import ThreadedModel

            return ThreadedModel(entry.model)
        return entry.async_model

    def models(self) -> Iterator[Inner | AsyncInner]:
        """All models, in their sync version if there is one."""
        return (entry.model or entry.async_model for entry in self._models)

    def claims(self, name: str) -> list[Inner]:
        """All models with that id or alias, `tiered` included. The last one answers to it."""
        return [
            entry.model
            for entry in self._models
            if entry.model and (entry.model.model_id == name or name in entry.aliases)
        ]

    def _find(self, name: str) -> ModelWithAliases:
        entry = self._entry(name)
        if entry is None:
            from . import plugins

            plugins.ask_again(name, self._models)
            entry = self._entry(name)
        if entry is None:
            raise self._unknown(name)
        return entry

    def _unknown(self, name: str) -> ModelUnavailable:
        from .. import gemini
        from ..wording import did_you_mean
        from . import plugins

        ids = list(self._ids())
        if gemini.is_gemini(name) and not any(map(gemini.is_gemini, ids)):
            return ModelUnavailable("llm-gemini is not installed", fix=gemini.INSTALL)
        if name == "tiered":
            return ModelUnavailable("a tier can't be tiered itself", fix=self._correct())
        hint = did_you_mean(name, ids)
        if error := plugins.missing(name, self.models(), hint):
            return error
        hint = hint and f", {hint}"
        return ModelUnavailable(f"llm knows no such model{hint}", fix=self._correct())

    def _correct(self) -> str:
        return f"correct it in {config_path()}"

    def _ids(self) -> Iterator[str]:
        for entry in self._models:
            yield entry.model.model_id
            yield from entry.aliases

    def _entry(self, name: str) -> ModelWithAliases | None:
        # As in llm, the last registration wins.
        for entry in reversed(self._models):
            if entry.model and (entry.model.model_id == name or name in entry.aliases):
                # A tier whose model is `tiered` would call itself forever.
                return None if entry.model.model_id == "tiered" else entry
        return None
