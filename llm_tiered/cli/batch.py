"""`llm tiered batch`: answer the prompts of a file."""

from __future__ import annotations
