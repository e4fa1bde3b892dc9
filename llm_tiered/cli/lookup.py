"""What commands ask llm: our model `tiered`, and everybody's models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
from llm import get_model_aliases

from .. import gemini
from ..errors import TieredError
from ..mlx.models import MlxModel
from ..paths import keys_path

if TYPE_CHECKING:
    from ..mlx.catalog import ModelSpec
    from ..router.model import TieredModel


def tiered_model() -> TieredModel:
    """The registered virtual model."""
    model: Any = get_model_aliases().get("tiered")
    if model is None:
        raise TieredError("llm has not registered the model 'tiered'", fix="llm plugins")
    found: TieredModel = model
    return found


def local_model(name: str) -> ModelSpec | None:
    """The local model that llm means by an id or an alias, or None if it is none."""
    model = get_model_aliases().get(name)
    return model.spec if isinstance(model, MlxModel) else None


def gemini_key_source() -> str | None:
    """Where llm finds the key of Gemini, or None. The key itself stays where it is.

    Raises TieredError if keys.json can't be read.
    """
    import os

    try:
        stored = llm.load_keys()
    except ValueError as error:
        raise TieredError(
            f"{keys_path()} is not JSON: {error}", fix="correct it, or remove it"
        ) from None
    if gemini.KEY_NAME in stored:
        return "llm keys"
    return gemini.KEY_VARIABLE if os.environ.get(gemini.KEY_VARIABLE) else None
