"""Whether a prompt stays on this machine or the user's, by its options and the stored ones.

`llm models options set tiered local_only true` stores one.

llm forgets stored options in `llm chat` with other options, and in its Python API. For privacy that
would be a leak.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from ..config.terms import strictest
from ..paths import model_options_path
from .options import TieredOptions

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.terms import Kept

logger = logging.getLogger("llm_tiered")

_MODEL = "tiered"

# `private` allows other machines of the user's.
OPTIONS: dict[str, Kept] = {"local_only": "here", "private": "own"}


def kept(options: Any) -> Kept | None:
    """Return whether a request with these options of `tiered` stays here, or on the user's own.

    Each option holds as the request says, else as is stored. If that can't be known, it stays.
    """
    requested = {name: getattr(options, name) for name in OPTIONS}
    if requested["local_only"]:
        return "here"
    path = model_options_path()
    are_stored = path.exists()
    holds = (
        are_stored and _stored(path, name) if value is None else value
        for name, value in requested.items()
    )
    return strictest(*(kept for kept, each in zip(OPTIONS.values(), holds, strict=True) if each))


def _stored(path: Path, name: str) -> bool:
    try:
        stored = json.loads(path.read_text("utf-8")).get(_MODEL, {}).get(name)
        return bool(getattr(TieredOptions(**{name: stored}), name))
    except (OSError, ValueError, AttributeError) as error:
        logger.warning("%s can't be read (%s), so prompts stay on this machine", path, error)
        return True
