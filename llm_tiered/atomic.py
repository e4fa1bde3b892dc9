"""Write a file as a whole, or leave it as it was."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees a part of it, even after a crash.

    A link stays a link and its target is replaced; an existing file keeps its mode. Raises
    OSError.
    """
    target = path.resolve()
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        if target.exists():
            shutil.copymode(target, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
