"""Where the engine's files are, and that nobody else can put theirs there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from llm_tiered.mlx.process.place import LONGEST, places


def test_place(user_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are in llm's directory, named after the machine."""
    monkeypatch.setattr(socket, "gethostname", lambda: "desk-1.example.org")
    place = places()[0]
    assert place.socket == user_path / "tiered" / "engine" / "desk-1.sock"
    assert {file.parent for file in (place.lock, place.log, place.crashes)} == {place.folder}


@pytest.mark.parametrize("name", ["", "a" * 64, "Grüße", "../..", "a b", "x\n"])
def test_odd_names_of_machines(name: str, user_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any name becomes a short file name, and another one for another machine."""
    stems = []
    for each in (name, f"2{name}"):
        monkeypatch.setattr(socket, "gethostname", lambda each=each: each)
        place = places()[0]
        stems.append(place.socket.name)
        assert place.socket.parent == place.folder
        assert len(place.socket.name) <= 21
        assert place.socket.name.isascii()
    assert len(set(stems)) == 2


def test_long_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the path is too long for a socket, the files are temporary ones, by user and directory."""
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    seen = set()
    for name in ("a", "b"):
        monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / (100 * name)))
        [place] = places()
        assert len(os.fsencode(place.socket)) <= LONGEST
        assert place.folder == Path(f"/tmp/llm-tiered-{os.geteuid()}")
        seen.add(place.socket)
    assert len(seen) == 2


def test_no_short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every path is too long, there is no place."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / (100 * "t")))
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / (100 * "u")))
    assert places() == ()


def test_folder_for_others(user_path: Path) -> None:
    """A folder that others could write to is closed to them before it is used."""
    place = places()[0]
    place.prepare()
    place.folder.chmod(0o777)
    place.socket.touch()
    assert not place.has_socket()
    place.prepare()
    assert place.has_socket()


def test_folder_of_another_user(user_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of another user, or a link to one, is not used."""
    place = places()[0]
    place.prepare()
    place.socket.touch()
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert not place.has_socket()
    with pytest.raises(OSError, match="not a folder of this user alone"):
        place.prepare()
    monkeypatch.setattr(os, "geteuid", lambda: user)
    target = place.folder.rename(user_path / "elsewhere")
    place.folder.symlink_to(target)
    assert not place.has_socket()
    with pytest.raises(OSError, match="not a folder of this user alone"):
        place.prepare()
