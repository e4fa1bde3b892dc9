"""Where a local model's files are, whichever way they come, and whether it can run here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import DownloadError, ModelUnavailable
from .. import device
from ..engine import residency
from . import embedded, hub
from . import inspect as files

if TYPE_CHECKING:
    from pathlib import Path

    from ..catalog import ModelSpec

# Beyond this many parameters a CPU takes seconds for each token.
CPU_PARAMETERS = 1_000_000_000


def locate(spec: ModelSpec) -> Path | None:
    """The model's folder if all of it is on disk, else None. Asks no network."""
    if spec.path is not None:
        return spec.path
    if spec.embedded:
        return embedded.folder() if embedded.is_ready() else None
    return hub.find(str(spec.repo))


def fetch(spec: ModelSpec, *, show_progress: bool | None = None) -> Path:
    """The model's folder, downloaded first where it is not on disk.

    Raises DownloadError where it can't be had.
    """
    folder = locate(spec)
    if folder is not None:
        return folder
    if spec.embedded:
        return embedded.ensure(show_progress=show_progress)
    return hub.download(str(spec.repo), show_progress=show_progress)


def download(spec: ModelSpec, *, show_progress: bool | None = None) -> Path:
    """The model's folder, with whatever is missing or damaged in it fetched again.

    Raises DownloadError where it can't be had.
    """
    if spec.repo is not None:
        return hub.download(spec.repo, show_progress=show_progress)
    if spec.embedded and embedded.is_ready():
        try:
            inspect(spec, embedded.folder())
        except ModelUnavailable:
            embedded.discard()
    return fetch(spec, show_progress=show_progress)


def inspect(spec: ModelSpec, folder: Path) -> files.ModelFiles:
    """What the folder holds. Raises ModelUnavailable or DamagedModel, with what mends it."""
    fix = None if spec.path else f"llm tiered download {spec.model_id}"
    return files.inspect(folder, fix=fix)


def knows_tools(spec: ModelSpec) -> bool:
    """Whether the model's chat template knows tools, as far as that can be told by now."""
    if spec.tools is not None:
        return spec.tools
    folder = locate(spec)
    return folder is not None and files.template_has_tools(folder)


def check(spec: ModelSpec, *, memory_limit: int | None, allow_cpu: bool) -> None:
    """Raise ModelUnavailable if the model is known not to work on this machine just now.

    `memory_limit` is in bytes; None takes what is safe on the device.
    """
    here = device.detect()
    folder = locate(spec)
    found = inspect(spec, folder) if folder else None
    parameters = found.parameters if found else spec.parameters
    if here.kind == "cpu" and not allow_cpu and (parameters or 0) > CPU_PARAMETERS:
        missing = "" if folder else "not downloaded, and "
        raise ModelUnavailable(
            f"{missing}too slow on a CPU with its {(parameters or 0) / 1e9:.1f} billion parameters",
            fix="allow_cpu: true in the config",
        )
    needed = found.memory if found else _size_on_the_hub(spec)
    budget = memory_limit or here.budget
    if needed > budget:
        raise ModelUnavailable(residency.too_large(needed, budget), fix=residency.LESS)


def ready(spec: ModelSpec, *, memory_limit: int | None) -> Path:
    """The folder of a model that is to be used by itself, downloaded if it has to be.

    Raises ModelUnavailable, with the model's name, where it can't be used here.
    """
    try:
        check(spec, memory_limit=memory_limit, allow_cpu=True)
    except ModelUnavailable as error:
        raise type(error)(f"{spec.model_id}: {error.message}", fix=error.fix) from None
    return fetch(spec)


def _size_on_the_hub(spec: ModelSpec) -> int:
    """Bytes of a model that is not here.

    Raises DownloadError if it is known that the download can't work.
    """
    if hub.offline():
        raise DownloadError(
            "not downloaded, and HF_HUB_OFFLINE forbids it",
            fix=f"unset it and run: llm tiered download {spec.model_id}",
        )
    if spec.embedded:
        return spec.size or 0
    try:
        return hub.model_bytes(str(spec.repo))
    except DownloadError as error:
        raise DownloadError(f"not downloaded, and {error.message}", fix=error.fix) from None
