"""A request with everything in it, and its cache key, which must never change.

A fresh process imports this, so it imports little.
"""

from __future__ import annotations

import llm

from llm_tiered.cache.key import cache_key
from tests.stand_in import StandIn

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)

FIXED = "4f5c2d82e9c4380cd6bf336800a4ea04c86438a81ca942cced6165a52f77c530"


class Search(llm.ServerSideTool):
    """A search tool for one country."""

    # The name of the class is part of the key: FIXED was made when this was its module.
    __module__ = "tests.log.test_cache_key"

    name = "search"

    def __init__(self, country: str | None = None) -> None:
        self.country = country


def weather() -> None:
    """Tell the weather.

    For a place.
    """


def fixed_key() -> str | None:
    """Return the key of the request."""
    tool = llm.Tool(name="weather", description=weather.__doc__, input_schema={"type": "object"})
    prompt = llm.Prompt(
        "Wie wird's?\N{SNOWMAN}",
        StandIn("silent"),
        system="Be brief.",
        schema={"type": "object", "properties": {"b": {"type": "string"}, "a": {}}},
        tools=[tool, Search("de")],
        attachments=[llm.Attachment(content=PNG), llm.Attachment(url="https://example.com/a.png")],
    )
    return cache_key(prompt, "mlx/toy-small", {"temperature": 0.1, "stop": ["x"], "seed": 1 << 63})
