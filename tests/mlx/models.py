"""Local models in folders, as llm sees them, and questions to them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import AsyncMlxModel, MlxModel

if TYPE_CHECKING:
    from pathlib import Path

# Seconds to wait for what usually takes milliseconds: the machine may be busy.
PATIENCE = 120


def local_model(folder: Path, name: str) -> MlxModel:
    """Return the model in a folder. Asking llm for it would take a tenth of a second."""
    return MlxModel(ModelSpec(model_id=name, path=folder), Limits, lambda _: None)


def async_local_model(folder: Path, name: str) -> AsyncMlxModel:
    """Return the async model in a folder."""
    return AsyncMlxModel(ModelSpec(model_id=name, path=folder), Limits, lambda _: None)


async def ask(model: AsyncMlxModel, prompt: str, **options: Any) -> str:
    """Return a model's answer."""
    text: str = await asyncio.wait_for(model.prompt(prompt, **options).text(), PATIENCE)
    return text


def details(response: Any) -> dict[str, Any]:
    """Return what the log keeps of an answer besides its text."""
    details = response.response_json
    assert isinstance(details, dict)
    return details
