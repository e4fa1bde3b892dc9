"""Where a local model's files are, whatever their source, and whether it can run here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import DownloadError, ModelUnavailable
from .. import device
from ..catalog import CPU_PARAMETERS
from . import embedded, hub
from .huggingface import offline
from .inspect import ModelFiles, inspect_folder
from .templates import template_has_tools

if TYPE_CHECKING:
    from pathlib import Path

    from ..catalog import ModelSpec
    from .reporting import Show


def locate(spec: ModelSpec) -> Path | None:
    """Return the model's folder if it is on disk, else None. Uses no network."""
    if spec.path is not None:
        return spec.path
    if spec.embedded:
        return embedded.folder() if embedded.is_ready() else None
    return hub.find(str(spec.repo))


def fetch(spec: ModelSpec, *, show_progress: Show = None) -> Path:
    """Return the model's folder, after downloading it if it is not on disk.

    `show_progress` is who is told about it. Raises DownloadError if the download fails.
    """
    folder = locate(spec)
    if folder:
        return folder
    if spec.embedded:
        return embedded.ensure(show_progress=show_progress)
    return hub.download(str(spec.repo), show_progress=show_progress)


def download(spec: ModelSpec, *, show_progress: Show = None) -> Path:
    """Return the model's folder, after fetching every file that is missing or damaged.

    Raises DownloadError if the download fails.
    """
    if spec.repo is not None:
        return hub.download(spec.repo, show_progress=show_progress)
    if spec.embedded and embedded.is_ready():
        try:
            model_files(spec, embedded.folder())
        except ModelUnavailable:
            embedded.discard()
    return fetch(spec, show_progress=show_progress)


def model_files(spec: ModelSpec, folder: Path) -> ModelFiles:
    """Return what the model's folder holds. Raises ModelUnavailable or DamagedModel."""
    fix = None if spec.path else f"llm tiered download {spec.model_id}"
    return inspect_folder(folder, fix=fix)


def supports_tools(spec: ModelSpec) -> bool:
    """Whether the model is on disk and its chat template supports tools."""
    folder = locate(spec)
    return folder is not None and template_has_tools(folder)


def check(spec: ModelSpec, *, memory_limit: int | None, allow_cpu: bool) -> None:
    """Raise ModelUnavailable if the model is known not to work on this machine right now.

    `memory_limit` is in bytes; None means what is safe on the device.
    """
    _check(spec, locate(spec), memory_limit, allow_cpu=allow_cpu)


def ready(spec: ModelSpec, *, memory_limit: int | None) -> Path:
    """Return the folder of a model that the user asked for by name, downloaded if necessary.

    Raises ModelUnavailable, naming the model, if it can't be used here.
    """
    folder = locate(spec)
    try:
        _check(spec, folder, memory_limit, allow_cpu=True)
    except ModelUnavailable as error:
        raise type(error)(f"{spec.model_id}: {error.message}", fix=error.fix) from None
    return folder or fetch(spec)


def _check(
    spec: ModelSpec, folder: Path | None, memory_limit: int | None, *, allow_cpu: bool
) -> None:
    here = device.detect()
    files = model_files(spec, folder) if folder else None
    parameters = (files.parameters if files else spec.parameters) or 0
    if here.kind == "cpu" and not allow_cpu and parameters > CPU_PARAMETERS:
        missing = "" if folder else "not downloaded, and "
        raise ModelUnavailable(
            f"{missing}too slow on a CPU with its {parameters / 1e9:.1f} billion parameters",
            fix="name a smaller model in the config, such as smollm2, or set allow_cpu: true there",
        )
    needed = files.memory if files else _size_on_the_hub(spec)
    budget = memory_limit or here.budget
    if needed > budget:
        raise device.too_large(needed, budget)


def _size_on_the_hub(spec: ModelSpec) -> int:
    """Return the size in bytes of a model that is not on disk.

    Raises DownloadError if it is known that it can't be downloaded.
    """
    if offline():
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
