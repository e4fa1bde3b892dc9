"""The file of learned coefficients."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from llm_tiered.estimator import current, estimate, learned
from llm_tiered.estimator.features import FEATURES
from llm_tiered.estimator.model import COEFFICIENTS, Coefficients, FeatureWeight, shipped
from llm_tiered.paths import learned_path

HARDER = shipped()._replace(intercept=shipped().intercept + 1)
HARDEST = shipped()._replace(intercept=shipped().intercept + 2)
NO_SPREAD = (FeatureWeight(0.0, 0.0, 1.0),) * len(FEATURES)
PROMPT = "What is the capital of France?"

# A file that an earlier version wrote, whose estimate looked at 14 features.
EARLIER_FILE = Path(__file__).with_name("learned.json")


def test_nothing_learned(user_path: Path) -> None:
    """Without a file the shipped coefficients are used, and no file is created."""
    assert current() == shipped()
    assert list(user_path.iterdir()) == []


def test_save() -> None:
    """Saved coefficients are used from then on, and change the estimates."""
    path = learned.save(HARDER, {"answers": 12})
    assert current() == HARDER
    assert json.loads(path.read_text())["learned"] == {"answers": 12}
    before, after = estimate(PROMPT), estimate(PROMPT, coefficients=current())
    assert after.complexity > before.complexity
    assert before == estimate(PROMPT, coefficients=shipped())


def test_file_of_an_earlier_version(caplog: pytest.LogCaptureFixture) -> None:
    """What an earlier version has learned is refused in one line, which says how to learn again."""
    learned_path().parent.mkdir()
    learned_path().write_bytes(EARLIER_FILE.read_bytes())
    with caplog.at_level(logging.WARNING, logger="llm_tiered"):
        assert current() == current() == shipped()
    [record] = caplog.records
    assert "of another version, which looked at other features" in record.getMessage()
    assert "llm tiered learn fits them again" in record.getMessage()
    assert "\n" not in record.getMessage()
    learned.save(HARDER, {})
    assert current() == HARDER


def test_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read again only after it has changed."""
    learned.save(HARDER, {})
    current()
    load = Coefficients.load
    monkeypatch.setattr(Coefficients, "load", None)
    assert current() == HARDER
    monkeypatch.setattr(Coefficients, "load", load)
    learned.save(HARDEST, {})
    assert current() == HARDEST


def test_undo() -> None:
    """Undo goes back one step, then to the shipped coefficients, and then there is nothing left."""
    learned.save(HARDER, {})
    path = learned.save(HARDEST, {})
    assert learned.undo() == path
    assert current() == HARDER
    assert learned.undo() is None
    assert current() == shipped()
    with pytest.raises(FileNotFoundError):
        learned.undo()


def test_undo_after_learning_again() -> None:
    """Coefficients that were undone do not come back."""
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
        json.dumps(shipped()._replace(features=NO_SPREAD).as_dict()),
        COEFFICIENTS.read_text().replace("negations", "alchemy"),
        COEFFICIENTS.read_text()[:-200],
    ],
)
def test_damaged_file(damaged: str, caplog: pytest.LogCaptureFixture) -> None:
    """With a damaged file the shipped coefficients are used, with one warning and its fix."""
    path = learned.save(HARDER, {})
    path.write_bytes(damaged.encode("latin-1"))
    with caplog.at_level(logging.WARNING, logger="llm_tiered"):
        assert current() == current() == shipped()
    [record] = caplog.records
    assert "can't be used" in record.getMessage()
    assert "llm tiered learn --undo" in record.getMessage()
    learned.undo()
    assert current() == shipped()


def test_failed_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the previous file in place, and no other file beside it."""
    path = learned.save(HARDER, {})

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="no space"):
        learned.save(HARDEST, {})
    assert current() == HARDER
    assert os.listdir(path.parent) == [path.name]
