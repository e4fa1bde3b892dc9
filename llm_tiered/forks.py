"""Forks of this process, whose locks, threads and connections a child can't use."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def after_fork(reset: Callable[[], object]) -> None:
    """Let each child process begin with a call of `reset`. Windows has no forks."""
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=reset)
