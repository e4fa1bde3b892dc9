"""Files that are written as a whole, or stay as they were."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from llm_tiered.atomic import write_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    path = tmp_path / "folder"
    path.mkdir()
    return path


def test_written_and_replaced(folder: Path) -> None:
    """The file has the last content and keeps its mode, and no other file is left."""
    file = folder / "file"
    write_file(file, b"one")
    file.chmod(0o600)
    write_file(file, b"two")
    assert file.read_bytes() == b"two"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [*folder.iterdir()] == [file]


def test_no_room(folder: Path) -> None:
    """On a full disk the file stays as it was."""
    file = folder / "file"
    write_file(file, b"one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(OSError, match="large"):
            write_file(file, b"a" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == b"one"
    assert [*folder.iterdir()] == [file]


def test_a_link_stays_a_link(folder: Path, tmp_path: Path) -> None:
    """A link is not replaced by a file: its target is."""
    target = tmp_path / "target"
    (folder / "link").symlink_to(target)
    write_file(folder / "link", b"one")
    assert (folder / "link").is_symlink()
    assert target.read_bytes() == b"one"
