"""The coefficients learned from the user's own prompts: their file, and which are in use."""

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

_cache: dict[str, Any] = {}


def current() -> Coefficients:
    """Return the learned coefficients if there are any, otherwise those of the package.

    The file is read again only after it has changed. A damaged file is logged as a warning.
    """
    file = learned_path()
    try:
        stat = file.stat()
    except OSError:
        return shipped()
    key = (file, stat.st_mtime_ns, stat.st_size, stat.st_ino)
    if _cache.get("key") != key:
        _cache.update(key=key, coefficients=_load(file))
    coefficients: Coefficients = _cache["coefficients"]
    return coefficients


def save(coefficients: Coefficients, learned: Mapping[str, Any]) -> Path:
    """Start using these coefficients, keep the previous ones, and return the file.

    `learned` describes the fit to the user, and must not contain any prompt. Raises OSError.
    """
    file = learned_path()
    file.parent.mkdir(exist_ok=True)
    previous = previous_learned_path()
    if file.exists():
        write_file(previous, file.read_bytes())
    else:
        previous.unlink(missing_ok=True)
    content = {"about": ABOUT, "learned": dict(learned)} | coefficients.as_dict()
    write_file(file, (json.dumps(content, indent=2) + "\n").encode())
    return file


def undo() -> Path | None:
    """Go back to the previous coefficients; return their file, or None for those of the package.

    Raises FileNotFoundError if nothing was learned.
    """
    file = learned_path()
    previous = previous_learned_path()
    if previous.exists():
        previous.replace(file)
        return file
    file.unlink()
    return None


def _load(file: Path) -> Coefficients:
    try:
        return Coefficients.load(file)
    except (OSError, ValueError) as error:
        logger.warning(
            "%s can't be used (%s); using the coefficients that ship with the package "
            "(llm tiered learn fits them again, llm tiered learn --undo goes back)",
            file,
            error,
        )
        return shipped()
