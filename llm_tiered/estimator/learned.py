"""The coefficients that were learned from the user's own prompts: their file, and which hold."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from ..atomic import write_file
from ..paths import learned_path, previous_learned_path
from .model import Coefficients, shipped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

logger = logging.getLogger("llm_tiered")

ABOUT = "learned from this user's prompts; `llm tiered learn --undo` goes back"

_cached: dict[str, Any] = {}


def current() -> Coefficients:
    """The learned coefficients if there are any, else those that come with the package.

    The file is read again only when it changed. A damaged one is a warning.
    """
    file = learned_path()
    try:
        stat = file.stat()
    except OSError:
        return shipped()
    key = (file, stat.st_mtime_ns, stat.st_size, stat.st_ino)
    if _cached.get("key") != key:
        _cached.update(key=key, coefficients=_load(file))
    found: Coefficients = _cached["coefficients"]
    return found


def _load(file: Path) -> Coefficients:
    try:
        return Coefficients.load(file)
    except (OSError, ValueError) as error:
        logger.warning(
            "%s can't be used (%s): the estimate that comes with the package is taken "
            "(llm tiered learn --undo)",
            file,
            error,
        )
        return shipped()


def save(coefficients: Coefficients, learned: Mapping[str, Any]) -> Path:
    """Put learned coefficients in force and keep those before them; gives their file.

    `learned` is what people may want to know of them, and nothing of the prompts. Raises OSError.
    """
    file = learned_path()
    file.parent.mkdir(exist_ok=True)
    before = previous_learned_path()
    if file.exists():
        write_file(before, file.read_bytes())
    else:
        before.unlink(missing_ok=True)
    content = {"about": ABOUT, "learned": dict(learned)} | coefficients.as_dict()
    write_file(file, (json.dumps(content, indent=2) + "\n").encode())
    return file


def undo() -> Path | None:
    """Go back to the coefficients before; gives their file, or None for the package's own.

    Raises FileNotFoundError if nothing was learned.
    """
    file = learned_path()
    before = previous_learned_path()
    if before.exists():
        before.replace(file)
        return file
    file.unlink()
    return None
