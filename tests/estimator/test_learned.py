"""The file of what was learned."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING

import pytest

from llm_tiered.estimator import current, estimate, learned
from llm_tiered.estimator.model import COEFFICIENTS, Coefficients, Weight, shipped

if TYPE_CHECKING:
    from pathlib import Path

HARDER = shipped()._replace(intercept=shipped().intercept + 1)
HARDEST = shipped()._replace(intercept=shipped().intercept + 2)
PROMPT = "What is the capital of France?"


def test_nothing_learned(user_path: Path) -> None:
    """Without a file the package's own hold, and none is made."""
    assert current() == shipped()
    assert list(user_path.iterdir()) == []


def test_learned() -> None:
    """What is saved holds from then on, and an estimate with it is another."""
    path = learned.save(HARDER, {"answers": 12})
    assert current() == HARDER
    assert json.loads(path.read_text())["learned"] == {"answers": 12}
    plain, found = estimate(PROMPT), estimate(PROMPT, coefficients=current())
    assert found.complexity > plain.complexity
    assert plain == estimate(PROMPT, coefficients=shipped())


def test_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read again only after it changed."""
    learned.save(HARDER, {})
    current()
    read = Coefficients.load
    monkeypatch.setattr(Coefficients, "load", None)
    assert current() == HARDER
    monkeypatch.setattr(Coefficients, "load", read)
    learned.save(HARDEST, {})
    assert current() == HARDEST


def test_undo() -> None:
    """Undo goes back one step, again to the package's own, and then there is nothing left."""
    learned.save(HARDER, {})
    path = learned.save(HARDEST, {})
    assert learned.undo() == path
    assert current() == HARDER
    assert learned.undo() is None
    assert current() == shipped()
    with pytest.raises(FileNotFoundError):
        learned.undo()


def test_undo_after_learning_anew() -> None:
    """What was undone before does not come back."""
    learned.save(HARDER, {})
    learned.save(HARDEST, {})
    learned.undo()
    learned.undo()
    learned.save(HARDEST, {})
    assert learned.undo() is None


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "{",
        "[]",
        "null",
        '{"intercept": 1}',
        "\x00\xff",
        json.dumps(shipped().as_dict() | {"step": 0}),
        json.dumps(shipped().as_dict() | {"step": float("nan")}),
        json.dumps(shipped().as_dict() | {"step": "much"}),
        json.dumps(shipped().as_dict() | {"features": []}),
        json.dumps(shipped()._replace(features=(Weight(0.0, 0.0, 1.0),) * 14).as_dict()),
        COEFFICIENTS.read_text().replace("mathematics", "alchemy"),
        COEFFICIENTS.read_text()[:-200],
    ],
)
def test_damaged(damaged: str, caplog: pytest.LogCaptureFixture) -> None:
    """With a damaged file the package's own hold, and that is said once, with what mends it."""
    path = learned.save(HARDER, {})
    path.write_bytes(damaged.encode("latin-1"))
    with caplog.at_level(logging.WARNING, logger="llm_tiered"):
        assert current() == current() == shipped()
    [record] = caplog.records
    assert "can't be used" in record.getMessage()
    assert "llm tiered learn --undo" in record.getMessage()
    learned.undo()
    assert current() == shipped()


def test_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves what was there, and no rest beside it."""
    path = learned.save(HARDER, {})

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="no space"):
        learned.save(HARDEST, {})
    assert current() == HARDER
    assert os.listdir(path.parent) == [path.name]
