from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from llm_tiered.endpoints.outages import (
    FIRST_PAUSE,
    LONGEST_OUTAGE,
    LONGEST_PAUSE,
    Outage,
    Outages,
    outage_after,
)
from llm_tiered.paths import endpoints_folder

if TYPE_CHECKING:
    from pathlib import Path

BOX = "http://box:8000/v1"
REFUSED = Outage("connection refused", until=1010.0)


def test_other_processes_know() -> None:
    """What one process notes, the next one finds, until a server answers again."""
    Outages().note(BOX, REFUSED)
    assert Outages().find(BOX) == REFUSED
    assert Outages().find("http://other") is None
    Outages().end(BOX)
    assert Outages().find(BOX) is None


def test_file_tells_no_secret() -> None:
    """Only the user can read the folder, and the file does not hold the address."""
    Outages().note("http://user:password@box", REFUSED)
    [file] = endpoints_folder().iterdir()
    assert stat.S_IMODE(endpoints_folder().stat().st_mode) == 0o700
    assert b"password" not in file.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such mode there")
def test_without_a_writable_folder(user_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing can be written, the process itself remembers."""
    (user_path / "tiered").write_text("in the way")
    outages = Outages()
    outages.note(BOX, REFUSED)
    assert outages.find(BOX) == REFUSED
    outages.end(BOX)
    assert outages.find(BOX) is None


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", "[" * 10_000, '"x"', '{"until": 1}'),
        *('{"reason": "x", "until": "soon", "proof": "health", "failures": 1}',),
        *('{"reason": "x", "until": NaN, "proof": "health", "failures": 1}',),
        *('{"reason": "x", "until": 5, "proof": "magic", "failures": 1}',),
        *('{"reason": "x", "until": 5, "proof": [], "failures": 1}',),
        *('{"reason": "x", "until": 5, "proof": "health", "failures": 0}',),
    ],
)
def test_damaged_file_says_nothing(content: str) -> None:
    """A file that is cut off, or of another version, is as none."""
    Outages().note(BOX, REFUSED)
    [file] = endpoints_folder().iterdir()
    file.write_text(content)
    assert Outages().find(BOX) is None


def test_file_holds_what_is_needed() -> None:
    """The file is JSON with the reason, the time, the proof and the number of failures."""
    Outages().note(BOX, REFUSED)
    [file] = endpoints_folder().iterdir()
    facts = {"reason": "connection refused", "until": 1010.0, "proof": "health", "failures": 1}
    assert json.loads(file.read_text()) == facts
    assert os.listdir(endpoints_folder()) == [file.name]


def test_pauses_double() -> None:
    """Each failure in a row doubles the pause, up to a minute."""
    outage, pauses = None, []
    for _ in range(8):
        outage = outage_after("x", outage, 100.0)
        pauses.append(outage.left(100.0))
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE, LONGEST_PAUSE)
    assert all(later == min(2 * earlier, LONGEST_PAUSE) for earlier, later in pairwise(pauses))
    assert outage_after("x", replace(REFUSED, failures=10**6), 100.0).left(100.0) == LONGEST_PAUSE


def test_server_that_says_how_long() -> None:
    """A time that the server asks for is kept, and needs no other proof when it is over."""
    outage = outage_after("HTTP 429", None, 100.0, wait=300.0)
    assert (outage.left(100.0), outage.is_over(399.0), outage.is_over(400.0)) == (
        300.0,
        False,
        True,
    )
    assert outage_after("HTTP 429", None, 0.0, wait=1e12).left(0.0) == LONGEST_OUTAGE


def test_one_that_hung_has_to_answer() -> None:
    """That a server which hung can be reached again proves nothing, whatever happens meanwhile."""
    hung = outage_after("silence", None, 0.0, proof="answer")
    assert outage_after("connection refused", hung, 10.0, proof="health").proof == "answer"


@pytest.mark.parametrize("until", [-1e9, 0.0, 99.0, 100.0, 100.0 + 2 * LONGEST_OUTAGE])
def test_impossible_times_are_over(until: float) -> None:
    """A time in the past is over, and so is one from when the clock was wrong."""
    assert Outage("x", until).left(100.0) == 0.0
