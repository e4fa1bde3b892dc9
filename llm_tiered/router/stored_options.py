"""Whether a prompt stays on this machine, by its options and those that the user has stored.

`llm models options set tiered local_only true` stores one.

llm forgets stored options in `llm chat` with other options, and in its Python API. For privacy that
would be a leak.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from ..paths import model_options_path
from .options import TieredOptions

logger = logging.getLogger("llm_tiered")

_MODEL = "tiered"

# Each of them is enough. `private` allows other machines of the user's: as yet there are none.
OPTIONS = ("local_only", "private")


def stays_here(options: Any) -> bool:
    """Return whether a request with these options of `tiered` stays on this machine.

    Each option holds as the request says, else as is stored. If that can't be known, it stays.
    """
    requested = {name: getattr(options, name) for name in OPTIONS}
    if any(requested.values()):
        return True
    return any(_stored(name) for name, value in requested.items() if value is None)


def _stored(name: str) -> bool:
    path = model_options_path()
    if not path.exists():
        return False
    try:
        stored = json.loads(path.read_text("utf-8")).get(_MODEL, {}).get(name)
        return bool(getattr(TieredOptions(**{name: stored}), name))
    except (OSError, ValueError, AttributeError) as error:
        logger.warning("%s can't be read (%s), so prompts stay on this machine", path, error)
        return True
