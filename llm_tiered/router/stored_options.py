"""What the user has stored about privacy: `llm models options set tiered local_only true`.

llm forgets stored options in `llm chat` with other options, and in its Python API. For privacy that
would be a leak.
"""

from __future__ import annotations

import json
import logging

from ..paths import model_options_path
from .options import TieredOptions

logger = logging.getLogger("llm_tiered")

_MODEL = "tiered"


def local_only(requested: bool | None) -> bool:
    """Return whether a request stays on this machine: as it says itself, else as is stored.

    If that can't be known, it stays.
    """
    if requested is not None:
        return requested
    path = model_options_path()
    if not path.exists():
        return False
    try:
        stored = json.loads(path.read_text("utf-8")).get(_MODEL, {}).get("local_only")
        return bool(TieredOptions(local_only=stored).local_only)
    except (OSError, ValueError, AttributeError) as error:
        logger.warning("%s can't be read (%s), so prompts stay on this machine", path, error)
        return True
