"""What MLX computes on here, and how much memory there is for it."""

from __future__ import annotations

import functools
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..errors import EngineError, ModelUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

# The share of the machine's memory that models may take, where Metal does not say how much it
# can wire: the rest is for the system and everything else that runs.
SAFE_SHARE = 0.7


@dataclass(frozen=True)
class Device:
    """What MLX computes on: its kind and name, the machine's memory and what models may use.

    Both are in bytes.
    """

    kind: Literal["metal", "cuda", "cpu"]
    name: str
    memory: int
    budget: int


@functools.cache
def detect() -> Device:
    """The device that MLX uses by default.

    Raises ModelUnavailable where MLX is not installed or does not load, with what to do.
    """
    try:
        import mlx.core as mx

        info: dict[str, Any] = dict(mx.device_info())
        on_gpu = mx.default_device() == mx.Device(mx.gpu)
    except (ImportError, RuntimeError) as error:
        raise _no_mlx(error) from None
    memory = info.get("memory_size") or info.get("total_memory") or _physical_memory()
    budget = info.get("max_recommended_working_set_size") or int(memory * SAFE_SHARE)
    kind: Literal["metal", "cuda", "cpu"] = "cpu"
    if on_gpu:
        kind = "metal" if mx.metal.is_available() else "cuda"
    name = str(info.get("device_name") or info.get("architecture") or platform.machine())
    return Device(kind, name, int(memory), int(budget))


def claim() -> None:
    """Say that MLX is about to compute in this process.

    Raises EngineError in a process forked from one where it did: its threads are not there, and
    it would wait for them forever.
    """
    if _first_process() != os.getpid():
        raise EngineError(
            "MLX can't be used in a process forked from one that has used it",
            fix="start processes by multiprocessing's 'spawn'",
        )


@functools.cache
def _first_process() -> int:
    """The id of the process that computed first."""
    return os.getpid()


def clear_streams() -> None:
    """Let go of this thread's streams: MLX aborts the process if they outlive the thread."""
    if "mlx.core" in sys.modules:
        import mlx.core as mx

        mx.clear_streams()


@contextmanager
def wired() -> Iterator[None]:
    """Let Metal hold on to what models keep in memory: the system does not page it out."""
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
    """Run something that uses MLX on a thread of its own, whichever thread asks for it.

    Raises EngineError in a process forked from one that has used MLX.
    """
    claim()

    def task() -> T:
        try:
            return work()
        finally:
            clear_streams()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(task).result()


def too_large(needed: int, budget: int, subject: str = "") -> ModelUnavailable:
    """Return the error for a model that needs more memory than models may use, both in bytes.

    `subject` names the model where the caller does not.
    """
    needs = f"needs {needed / 1e9:.1f} GB of memory, and models may use {budget / 1e9:.1f} GB"
    return ModelUnavailable(
        f"{subject} {needs}" if subject else needs,
        fix="a larger memory_limit in the config, or a smaller model",
    )


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _no_mlx(error: Exception) -> ModelUnavailable:
    if sys.platform == "linux":
        return ModelUnavailable(
            f"MLX has no backend here: {error}",
            fix="llm install 'mlx[cpu]', or mlx[cuda12] or mlx[cuda13] with an NVIDIA GPU",
        )
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return ModelUnavailable(f"MLX does not load: {error}", fix="llm install -U mlx mlx-lm")
    return ModelUnavailable("MLX runs on Apple silicon and Linux only")
