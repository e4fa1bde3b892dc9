"""Models of another plugin, for tests of what is registered and looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm

if TYPE_CHECKING:
    from collections.abc import Iterator


class Other(llm.Model):
    """A model of another plugin."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id

    def execute(self, *_: Any) -> Iterator[str]:
        """Answer with the model's id."""
        yield self.model_id


class AsyncOther(llm.AsyncModel):
    """A model of another plugin, for asyncio."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id

    async def execute(self, *_: Any) -> Any:
        """Answer with the model's id."""
        yield self.model_id
