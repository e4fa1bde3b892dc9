"""What an engine and its callers must have in common, to talk to each other."""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# The form of requests and events. GET /status and POST /leave never change.
PROTOCOL = 2

_CODE = Path(__file__).parents[1]


@cache
def identity() -> dict[str, str | int]:
    """Return the protocol, the versions, the Python environment and the state of the code.

    The code is named as well because a clone changes without a new version.
    """
    return {
        "protocol": PROTOCOL,
        "version": _version("llm-tiered"),
        "mlx": _version("mlx"),
        "mlx_lm": _version("mlx-lm"),
        "python": f"{sys.version.partition(' ')[0]} in {sys.prefix}",
        "code": f"{_CODE} {_state(_CODE)}",
    }


def is_outdated() -> bool:
    """Return whether what is installed has changed since this process asked for its identity."""
    return identity.__wrapped__() != identity()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _state(folder: Path) -> str:
    """Return what changes when any file of the code is written."""
    digest = hashlib.sha256()
    for path, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if name.endswith(".py"):
                stat = os.stat(os.path.join(path, name))
                digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
