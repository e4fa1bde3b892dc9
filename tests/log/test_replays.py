"""The reports of replays that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_tiered.log import replays

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_reports_of_one_log(user_path: Path) -> None:
    """Each log has its own, latest first."""
    one, other = user_path / "logs.db", user_path / "other.db"
    assert replays.saved_replays(one) == []
    for number, log in enumerate((one, other, one)):
        replays.save(log, {"requests": number})
    assert [saved.report["requests"] for saved in replays.saved_replays(one)] == [2, 0]
    assert [saved.number for saved in replays.saved_replays(one)] == [3, 1]


def test_only_the_latest_are_kept(user_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old report makes room for a new one, and its number is not used again."""
    monkeypatch.setattr(replays, "MOST", 2)
    log = user_path / "logs.db"
    for number in range(4):
        replays.save(log, {"requests": number})
    assert [saved.number for saved in replays.saved_replays(log)] == [4, 3]
