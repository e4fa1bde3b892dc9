"""Files that are written as a whole or not at all."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from llm_tiered import atomic as whole_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with nothing in it."""
    path = tmp_path / "folder"
    path.mkdir()
    return path


def test_written_and_replaced(folder: Path) -> None:
    """The file holds what was written last, keeps its mode, and nothing is left beside it."""
    file = folder / "file"
    whole_file.write(file, b"one")
    file.chmod(0o600)
    whole_file.write(file, b"two")
    assert file.read_bytes() == b"two"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [*folder.iterdir()] == [file]


def test_no_room(folder: Path) -> None:
    """What does not fit on the disk leaves the file as it was."""
    file = folder / "file"
    whole_file.write(file, b"one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(OSError, match="large"):
            whole_file.write(file, b"a" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == b"one"
    assert [*folder.iterdir()] == [file]
