"""Starting an engine: a process of its own, which outlives the one that starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ... import command_line
from ...paths import engine_folder
from . import client
from .place import places

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .client import RunningEngine
    from .place import EngineFiles

# Seconds in which it has to be ready: it imports for one, and machines may be busy.
READY_WITHIN = 60.0

# Seconds in which an engine is ready that was started earlier by another process.
_SOON = 3.0

# Seconds between two looks at whether it is ready.
_INTERVAL = 0.02

# Bytes of the log, beyond which it begins anew.
_LONGEST_LOG = 1_000_000

# What the engine gets of the environment: where its files and libraries are, and how libraries of
# models compute. No key, no token, no proxy, and no TMPDIR, which may be that of a script and gone
# long before the engine.
_VARIABLES = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "VIRTUAL_ENV"),
    *("LLM_USER_PATH", "SSL_CERT_DIR", "__CF_USER_TEXT_ENCODING"),
)
_PREFIXES = (
    *("LC_", "XDG_", "PYTHON", "CONDA_", "MLX_", "METAL_", "MTL_", "CUDA", "NVIDIA_", "NCCL_"),
    *("LD_", "DYLD_", "OMP_", "OPENBLAS_", "TOKENIZERS_"),
)


_is_permitted = False


class StartError(Exception):
    """No engine can be started, and why."""


def permit() -> None:
    """Let this process start engines, although it is not llm's command line."""
    global _is_permitted  # noqa: PLW0603 - it holds for the process
    _is_permitted = True


def is_permitted() -> bool:
    """Return whether this process may start engines: llm's command line, and a server."""
    return _is_permitted or command_line.is_this_process()


def check_owner() -> None:
    """Raise StartError if the user directory is another user's, as it can be with sudo."""
    try:
        owner = engine_folder().parent.parent.stat().st_uid
    except OSError as error:
        raise StartError(f"there is no user directory: {error}") from None
    if owner != os.geteuid():
        raise StartError("llm's directory belongs to another user")


def check_limits() -> None:
    """Raise StartError if this process may use only so much, since its engine serves others too."""
    import resource

    for name, limit in (("time", resource.RLIMIT_CPU), ("memory", resource.RLIMIT_AS)):
        if resource.getrlimit(limit)[0] != resource.RLIM_INFINITY:
            raise StartError(f"this shell limits the {name} of its processes (ulimit)")


class Starting:
    """An engine that is being started. It stays `keep_warm` seconds if nobody asks it anything.

    Raises StartError.
    """

    def __init__(self, keep_warm: float) -> None:
        check_owner()
        check_limits()
        self._place = _prepared()
        self._keep_warm = keep_warm
        self._ends = time.monotonic() + READY_WITHIN
        self._run()

    def wait(self, is_cancelled: Callable[[], bool] = lambda: False) -> RunningEngine | None:
        """Wait until it is ready, and return it, or None if cancelled. Raises StartError."""
        left_at: float | None = None
        while not is_cancelled():
            if engine := client.running():
                return engine
            now, code = time.monotonic(), self._process.returncode
            if code:
                raise StartError(_last_line(self._place.log) or f"it ended with code {code}")
            if now > self._ends:
                raise StartError(f"it was not ready within {READY_WITHIN:.0f} seconds")
            if code == 0:
                # It has left the field to another one, which should be ready soon.
                left_at = left_at or now
                if now - left_at > _SOON:
                    left_at = None
                    self._run()
            time.sleep(_INTERVAL)
        return None

    def _run(self) -> None:
        self._process = _start(self._place, self._keep_warm)
        # It is the child of this process for as long as both live.
        threading.Thread(target=self._process.wait, daemon=True).start()


def _prepared() -> EngineFiles:
    """Return the first place that files can be written to. Raises StartError."""
    problem = "there is no short path for its socket"
    try:
        for place in places():
            try:
                place.prepare()
                os.close(_open_log(place))
            except OSError as error:
                problem = f"{error.filename or place.folder}: {error.strerror or error}"
            else:
                return place
    except OSError as error:
        problem = str(error)
    raise StartError(problem)


def _start(place: EngineFiles, keep_warm: float) -> subprocess.Popen[bytes]:
    """Start the process. Raises StartError."""
    if not sys.executable:
        raise StartError("it is not known which Python this is")
    stems = [str(each.folder / each.name) for each in places()]
    log = _open_log(place)
    try:
        return subprocess.Popen(  # noqa: S603 - this Python, with paths of ours
            [sys.executable, "-m", "llm_tiered.mlx.process.main", str(keep_warm), *stems],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment(os.environ),
            start_new_session=True,
        )
    except OSError as error:
        raise StartError(f"{sys.executable}: {error.strerror or error}") from None
    finally:
        os.close(log)


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the engine, made from that of the process that starts it."""
    kept = {
        name: value
        for name, value in own.items()
        if name in _VARIABLES or name.startswith(_PREFIXES)
    }
    for name in ("PYTHONPATH", "LLM_USER_PATH"):
        if kept.get(name):
            # Its working directory is another one.
            paths = kept[name].split(os.pathsep)
            kept[name] = os.pathsep.join(str(Path(path).absolute()) for path in paths)
    # Callers download, and show how far they are.
    return kept | {"HF_HUB_OFFLINE": "1"}


def _open_log(place: EngineFiles) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    log = os.open(place.log, flags, 0o600)
    if os.fstat(log).st_size > _LONGEST_LOG:
        os.ftruncate(log, 0)
    return log


def _last_line(log: Path) -> str:
    """Return the last line of a log: for a traceback, the error."""
    try:
        lines = log.read_text("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
