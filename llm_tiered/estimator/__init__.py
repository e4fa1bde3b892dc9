"""Prompt → complexity: how hard a prompt is for a small model, estimated from its text.

An estimate imports nothing but llm and the standard library, as it may be made for every prompt.
"""

from __future__ import annotations

from .learned import current
from .model import Estimate, estimate

__all__ = ["Estimate", "current", "estimate"]
