"""Values that requests and the config have in common."""

from __future__ import annotations

from typing import Literal

# The scale of complexity.
LOWEST, HIGHEST = 1, 10

# Which other models may answer if the tier's own can't.
Fallback = Literal["any", "local", "none"]
