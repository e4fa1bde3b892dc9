"""Values that requests and the config have in common."""

from __future__ import annotations

from typing import Literal

# The scale of complexity.
LOWEST, HIGHEST = 1, 10

# Which other models may answer if the tier's own can't.
Fallback = Literal["any", "local", "none"]

# Where a model runs: on this machine, on another one of the user's, or on somebody else's.
Place = Literal["here", "own", "cloud"]
