"""The device that MLX computes on, and the memory that models may use."""

from __future__ import annotations

import functools
import os
import platform
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..errors import EngineError, ModelUnavailable
from ..wording import gigabytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

# The share of the machine's memory that models may use if Metal does not recommend a size: the
# rest is for the system and for other programs.
SAFE_SHARE = 0.7


@dataclass(frozen=True)
class Device:
    """A device for MLX.

    `memory` is all memory of the machine, `budget` what models may use of it, both in bytes.
    """

    kind: Literal["metal", "cuda", "cpu"]
    name: str
    memory: int
    budget: int


@functools.cache
def detect() -> Device:
    """Return the device that MLX uses by default.

    Raises ModelUnavailable, with what to do, if MLX is not installed or can't be loaded.
    """
    try:
        import mlx.core as mx

        info: dict[str, Any] = dict(mx.device_info())
        on_gpu = mx.default_device() == mx.Device(mx.gpu)
    except (ImportError, RuntimeError) as error:
        raise _no_mlx(error) from None
    memory = int(info.get("memory_size") or info.get("total_memory") or _physical_memory())
    return Device(
        kind=("metal" if mx.metal.is_available() else "cuda") if on_gpu else "cpu",
        name=str(info.get("device_name") or info.get("architecture") or platform.machine()),
        memory=memory,
        budget=int(info.get("max_recommended_working_set_size") or memory * SAFE_SHARE),
    )


def claim() -> None:
    """Record that this process is about to use MLX.

    Raises EngineError in a process forked from one that has used it: MLX would wait forever for
    threads that a fork does not copy.
    """
    if _first_process() != os.getpid():
        raise EngineError(
            "MLX can't be used in a process forked from one that has used it",
            fix="start processes with multiprocessing's 'spawn' method",
        )


def was_forked() -> bool:
    """Return whether this process was forked from one that has used MLX."""
    return _first_process.cache_info().currsize > 0 and _first_process() != os.getpid()


@functools.cache
def _first_process() -> int:
    """Return the id of the first process that used MLX."""
    return os.getpid()


def clear_streams() -> None:
    """Release this thread's streams: MLX aborts the process if they outlive the thread."""
    if "mlx.core" in sys.modules:
        import mlx.core as mx

        mx.clear_streams()


def give_back_memory() -> None:
    """Give memory that was freed back to the system: glibc keeps most of it for the process."""
    import ctypes

    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


@contextmanager
def wired() -> Iterator[None]:
    """Keep models wired in memory on Metal, so that the system does not page them out."""
    import mlx.core as mx

    if not mx.metal.is_available():
        yield
        return
    before = mx.set_wired_limit(int(mx.device_info()["max_recommended_working_set_size"]))
    try:
        yield
    finally:
        mx.set_wired_limit(before)


def run_apart(work: Callable[[], T]) -> T:
    """Run work that uses MLX on a thread of its own, and return its result.

    Raises EngineError in a process forked from one that has used MLX.
    """
    claim()

    def task() -> T:
        try:
            return work()
        finally:
            clear_streams()

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(task).result()


def too_large(needed: int, budget: int, subject: str = "") -> ModelUnavailable:
    """Return the error for a model that needs more memory than models may use, both in bytes.

    `subject` names the model where the caller does not.
    """
    needs = f"needs {gigabytes(needed)} of memory, but models may use only {gigabytes(budget)}"
    return ModelUnavailable(
        f"{subject} {needs}" if subject else needs,
        fix="raise memory_limit in the config, or use a smaller model",
    )


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _no_mlx(error: Exception) -> ModelUnavailable:
    if sys.platform == "linux":
        return ModelUnavailable(
            f"MLX has no backend on this machine: {error}",
            fix="llm install 'mlx[cpu]', or mlx[cuda12] or mlx[cuda13] with an NVIDIA GPU",
        )
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return ModelUnavailable(f"MLX can't be loaded: {error}", fix="llm install -U mlx mlx-lm")
    return ModelUnavailable("MLX runs only on Apple silicon and Linux")
