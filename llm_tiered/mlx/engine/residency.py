"""Which models are in memory: loaded on first use, and evicted to stay within a budget."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from .. import device
from ..weights.inspect import inspect_folder
from .loading import load_model
from .requests import Loading

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from ..weights.inspect import ModelFiles
    from .loading import LoadedModel
    from .requests import GenerationRequest

# A low estimate of the characters in a token, so that a prompt's length is not underestimated
# before it is tokenised.
CHARACTERS_PER_TOKEN = 3


class ResidentModel(NamedTuple):
    """A model in memory: bytes, when it was last asked, and how many tokens a second it generates.

    The time is in seconds since 1970.
    """

    name: str
    folder: Path
    memory: int
    last_used: float
    tokens_per_second: float
    parameters: int = 0


class ModelPool:
    """The models in memory, the least recently used first.

    Used on the worker's thread only, apart from `models`.
    """

    def __init__(self) -> None:
        self._models: OrderedDict[str, LoadedModel] = OrderedDict()
        self._current: set[LoadedModel] = set()

    def look_again(self) -> None:
        """Compare models with their files again, once, when they are asked for from now on."""
        self._current.clear()

    def models(self) -> list[ResidentModel]:
        """Return the models in memory, the least recently used first. Safe from any thread."""
        return [
            ResidentModel(
                name,
                model.files.path,
                model.memory,
                model.last_used,
                model.rate(),
                model.files.parameters,
            )
            for name, model in self._models.copy().items()
        ]

    def fits(self, request: GenerationRequest, busy: Collection[LoadedModel], caches: int) -> bool:
        """Return whether the request fits next to the busy models and `caches` bytes of KV caches.

        Raises ModelUnavailable or DamagedModel.
        """
        used = caches + sum(model.files.size + model.prefixes.nbytes for model in busy)
        characters = sum(len(message["content"]) for message in request.chat)
        tokens = characters // CHARACTERS_PER_TOKEN + request.max_tokens
        for each in filter(None, (request, request.draft_request)):
            files = self._files(each)
            used += tokens * (files.kv_bytes_per_token or 0)
            if self._resident(each) not in busy:
                used += files.size
        return used <= request.budget

    def get(
        self,
        request: GenerationRequest,
        busy: Collection[LoadedModel] = (),
        *,
        beside: LoadedModel | None = None,
        on_load: Callable[[Loading], None] = lambda loading: None,
    ) -> LoadedModel:
        """Return the request's model. If it has to be loaded, models that are not busy make room.

        `on_load` is called before it is loaded.
        Raises ModelUnavailable if the model is too large, alone or together with `beside`, or
        can't be used for another reason; DamagedModel or EngineError.
        """
        name = request.name
        model = self._resident(request)
        if model is None:
            files = inspect_folder(request.folder)
            _check_size(request, files, beside)
            self._current.discard(self._models.pop(name, None))
            self._make_room(request.budget - files.memory, busy)
            on_load(Loading(name, files.size))
            model = self._models[name] = load_model(request, files)
        self._models.move_to_end(name)
        model.last_used = time.time()
        return model

    def clear(self) -> None:
        """Unload every model."""
        self._make_room(-1, ())

    def _resident(self, request: GenerationRequest) -> LoadedModel | None:
        """Return the model if it is in memory as it is in the request's folder now."""
        model = self._models.get(request.name)
        if model is None or model.files.path != request.folder:
            return None
        if model not in self._current:
            if not model.is_current():
                return None
            self._current.add(model)
        return model

    def _files(self, request: GenerationRequest) -> ModelFiles:
        model = self._resident(request)
        return model.files if model else inspect_folder(request.folder)

    def _make_room(self, budget: int, busy: Collection[LoadedModel]) -> None:
        """Evict models that are not busy until the others fit into the budget, in bytes."""
        busy_names = {model.name for model in busy}
        for name in [name for name in self._models if name not in busy_names]:
            if sum(model.memory for model in self._models.values()) <= budget:
                return
            self.unload(name)

    def unload(self, name: str) -> None:
        """Unload a model."""
        import mlx.core as mx

        model = self._models.pop(name)
        self._current.discard(model)
        model.unload()
        mx.clear_cache()


def _check_size(request: GenerationRequest, files: ModelFiles, beside: LoadedModel | None) -> None:
    """Raise ModelUnavailable if a model is too large, alone or together with another one."""
    needed = files.memory + (beside.files.memory if beside else 0)
    if needed > request.budget:
        subject = f"{request.model} beside {beside.name}" if beside else request.model
        raise device.too_large(needed, request.budget, subject)
