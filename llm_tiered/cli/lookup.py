"""What commands look up in llm: the model `tiered`, local models, the key of Gemini."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import llm
from llm import get_model_aliases

from .. import gemini
from ..errors import RequestError, TieredError
from ..mlx.models import MlxModel
from ..paths import keys_path
from ..router.plugins import plugin_of

if TYPE_CHECKING:
    from ..mlx.catalog import ModelSpec
    from ..router.model import TieredModel


def tiered_model() -> TieredModel:
    """Return the registered model `tiered`. Raises TieredError if there is none."""
    from ..router.model import TieredModel

    model = get_model_aliases().get("tiered")
    if model is None:
        raise TieredError("llm has not registered the model 'tiered'", fix="llm plugins")
    if not isinstance(model, TieredModel):
        plugin = plugin_of(model)
        raise TieredError(f"'tiered' means a model of {plugin}", fix=f"llm uninstall {plugin}")
    return model


def find_spec(name: str) -> ModelSpec | None:
    """Return the local model that llm knows by this id or alias, or None."""
    model = get_model_aliases().get(name)
    return model.spec if isinstance(model, MlxModel) else None


def get_spec(name: str) -> ModelSpec:
    """Return the local model with this id or alias. Raises RequestError if there is none."""
    spec = find_spec(name)
    if spec is None:
        raise RequestError(f"there is no local model {name!r}", fix="llm tiered models")
    return spec


def gemini_key_source() -> str | None:
    """Return where llm finds the API key of Gemini, or None; the key itself is not read.

    Raises TieredError if the stored keys can't be read.
    """
    try:
        stored = llm.load_keys()
    except ValueError as error:
        raise TieredError(
            f"{keys_path()} is not JSON: {error}", fix="correct it, or remove it"
        ) from None
    if gemini.KEY_NAME in stored:
        return "llm keys"
    return gemini.KEY_VARIABLE if os.environ.get(gemini.KEY_VARIABLE) else None
