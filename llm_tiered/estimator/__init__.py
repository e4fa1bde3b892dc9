"""Prompt → complexity: how hard it is for a small model, estimated from its text alone."""

from __future__ import annotations

from .learned import current
from .model import Estimate, estimate

__all__ = ["Estimate", "current", "estimate"]
