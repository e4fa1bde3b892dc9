"""What `llm tiered verify` finds out about a part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    `warn` means that a part does not work here, but the chain works without it; `fail` means that
    a part that the config needs is broken.
    """

    part: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    fix: str | None = None
