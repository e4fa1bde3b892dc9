"""Values that requests and the config have in common."""

from __future__ import annotations

from typing import Literal, get_args

# The scale of complexity.
LOWEST, HIGHEST = 1, 10

# How the ids of servers' models begin.
SERVER_PREFIX = "server/"

# Which other models may answer if the tier's own can't.
Fallback = Literal["any", "local", "none"]

# Where a model runs: on this machine, on another one of the user's, or on somebody else's.
Place = Literal["here", "own", "cloud"]
PLACES: frozenset[Place] = frozenset(get_args(Place))

# Where a prompt must stay, the places that this allows, and how messages call them.
Kept = Literal["here", "own"]
WITHIN: dict[Kept, frozenset[Place]] = {
    "here": frozenset(["here"]),
    "own": frozenset(["here", "own"]),
}
WHOSE: dict[Kept, str] = {"here": "this machine", "own": "your machines"}


def strictest(*kept: Kept | None) -> Kept | None:
    """Return the strictest of several restrictions, or None if there are none."""
    return "here" if "here" in kept else "own" if "own" in kept else None
