"""What requests and the config say in the same words."""

from __future__ import annotations

from typing import Literal

# The scale of complexity.
LOWEST, HIGHEST = 1, 10

# Who may answer if the tier can't.
Fallback = Literal["any", "local", "none"]
