"""llm's command line, where that is the process in which the plugin runs."""

from __future__ import annotations

import atexit
import gc
import os
import stat
import sys
from contextlib import suppress

_ends_soon = False


def is_this_process() -> bool:
    """Return whether this process is llm's command line, and not a program that imports llm."""
    llm_cli = sys.modules.get("llm.cli")
    return llm_cli is not None and getattr(sys.modules.get("__main__"), "cli", 0) is llm_cli.cli


def end_soon() -> None:
    """Let llm's command line end as soon as it has nothing more to do.

    Before a process ends, Python frees what its modules refer to, one object after the other. With
    all that llm imports, that takes a third as long as importing it. The operating system frees the
    memory at once.
    """
    global _ends_soon  # noqa: PLW0603 - it holds for the process
    if not _ends_soon and is_this_process():
        atexit.register(_leave_garbage)
        _ends_soon = True


def _leave_garbage() -> None:
    """Let Python free nothing that refers to itself, unless somebody relies on that.

    MLX complains of objects of its own that are never freed, and a file that nobody has closed is
    only written when it is freed.
    """
    if "mlx.core" not in sys.modules and not _writes_files():
        gc.freeze()


def _writes_files() -> bool:
    """Return whether this process has a file open to write to it, apart from stdout and stderr."""
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        # As on Windows, it can't be known.
        return True
    return any(number > 2 and _is_written(number) for number in numbers)


def _is_written(number: int) -> bool:
    import fcntl

    with suppress(OSError):
        access = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        return access != os.O_RDONLY and stat.S_ISREG(os.fstat(number).st_mode)
    return False
