"""Tiers as the config file has them."""

from __future__ import annotations

SMALL = "{name: small, complexity: 1-4, model: phi}"
MEDIUM = "{name: medium, complexity: 5-7, model: qwen}"
CLOUD = "{name: cloud, complexity: 8-10, model: gemini/gemini-flash-latest}"


def tiers(*entries: str) -> str:
    """The key of the config with these tiers."""
    return f"tiers: [{', '.join(entries)}]"
