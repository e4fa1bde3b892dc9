"""The device that MLX uses, and machines without MLX."""

from __future__ import annotations

import json
import platform
import sys
from typing import TYPE_CHECKING

import mlx.core as mx
import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.errors import EngineError, ModelUnavailable
from llm_tiered.mlx import device

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINUX = ("linux", "x86_64")
MAC = ("darwin", "arm64")
INTEL_MAC = ("darwin", "x86_64")
WINDOWS = ("win32", "AMD64")


@pytest.fixture
def _no_mlx(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every import of MLX fail."""
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    device.detect.cache_clear()
    yield
    device.detect.cache_clear()


def test_detects_this_machine() -> None:
    """The device has a name, and models may use some of its memory but not all."""
    here = device.detect()
    assert here.kind in ("metal", "cuda", "cpu")
    assert here.name
    assert 0 < here.budget < here.memory


def test_detects_once() -> None:
    """The device is detected once per process."""
    assert device.detect() is device.detect()


@pytest.mark.usefixtures("_no_mlx")
@pytest.mark.parametrize(
    ("machine", "message", "fix"),
    [
        (LINUX, "MLX has no backend on this machine: ", "llm install 'mlx[cpu]'"),
        (MAC, "MLX can't be loaded: ", "llm install -U mlx mlx-lm"),
        (INTEL_MAC, "MLX runs only on Apple silicon and Linux", None),
        (WINDOWS, "MLX runs only on Apple silicon and Linux", None),
    ],
    ids=["Linux", "Mac", "Intel Mac", "Windows"],
)
def test_without_mlx(
    machine: tuple[str, str], message: str, fix: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If MLX can't be imported, the error says what to do, or that MLX does not run here."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", machine[0])
        patch.setattr(platform, "machine", lambda: machine[1])
        with pytest.raises(ModelUnavailable) as raised:
            device.detect()
    assert raised.value.message.startswith(message)
    assert (raised.value.fix or "").startswith(fix or "")
    assert (raised.value.fix is None) == (fix is None)


@pytest.mark.usefixtures("_no_mlx")
def test_command_line_without_mlx(tmp_path: Path, config_file: Path) -> None:
    """Without MLX a local model is listed, and prompting it prints one line that says why."""
    models = [{"id": "device-model", "path": str(tmp_path)}]
    config_file.write_text(json.dumps({"models": models}))
    listed = CliRunner().invoke(cli, ["models", "list"])
    prompted = CliRunner().invoke(cli, ["-m", "mlx/device-model", "Hello"])
    assert "mlx/device-model" in listed.stdout
    assert prompted.exit_code == 1
    assert prompted.stdout == ""
    [line] = prompted.stderr.splitlines()
    assert "MLX" in line


def test_memory_is_wired_on_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Metal, memory is wired up to the recommended size, and released afterwards."""
    limits: list[int] = []

    def limit(size: int) -> int:
        limits.append(size)
        return 7

    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": 1000})
    monkeypatch.setattr(mx, "set_wired_limit", limit)
    with device.wired():
        assert limits == [1000]
    assert limits == [1000, 7]
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    with device.wired():
        assert limits == [1000, 7]


def test_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process forked from one that has used MLX gets an error instead of hanging."""
    device.run_apart(lambda: mx.eval(mx.zeros(1)))
    device.claim()
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(EngineError, match="forked from one that has used it"):
        device.claim()
    with pytest.raises(EngineError):
        device.run_apart(lambda: None)
