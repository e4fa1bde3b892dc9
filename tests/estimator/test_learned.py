"""The file of learned coefficients."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from llm_tiered.estimator import current, estimate, learned
from llm_tiered.estimator.model import COEFFICIENTS, Coefficients, FeatureWeight, shipped
from llm_tiered.paths import learned_path

HARDER = shipped()._replace(intercept=shipped().intercept + 1)
HARDEST = shipped()._replace(intercept=shipped().intercept + 2)
PROMPT = "What is the capital of France?"

# A file that an earlier version wrote, and the estimates of that version: score, complexity and
# confidence, with the shipped and with the learned coefficients.
EARLIER_FILE = Path(__file__).with_name("learned.json")
EARLIER_ESTIMATES = {
    "What is 2+2?": [(0.2201492208, 3, 0.7), (0.3980391602, 6, 0.527)],
    "Who wrote the play Hamlet?": [(0.1751278682, 2, 0.843), (0.4003975317, 6, 0.532)],
    "Write a Python function that reverses a string.": [
        (0.3172722355, 5, 0.45),
        (0.5842080125, 8, 0.905),
    ],
    "Given that f(x) = 4x^3 - 9x - 14, find the value of f(2).": [
        (0.479498501, 7, 0.693),
        (0.5229817953, 8, 0.78),
    ],
    "Prove that there are infinitely many primes congruent to 3 mod 4.": [
        (0.6458178113, 9, 1.0),
        (0.8091208836, 10, 1.0),
    ],
}


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


def test_file_of_an_earlier_version() -> None:
    """A file that an earlier version wrote is read, and all estimates are the same as then."""
    learned_path().parent.mkdir()
    learned_path().write_bytes(EARLIER_FILE.read_bytes())
    estimates = {
        prompt: [estimate(prompt, coefficients=each) for each in (shipped(), current())]
        for prompt in EARLIER_ESTIMATES
    }
    assert {
        prompt: [(each.score, each.complexity, each.confidence) for each in both]
        for prompt, both in estimates.items()
    } == EARLIER_ESTIMATES


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
        json.dumps(shipped()._replace(features=(FeatureWeight(0.0, 0.0, 1.0),) * 14).as_dict()),
        COEFFICIENTS.read_text().replace("mathematics", "alchemy"),
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
