"""The progress on stderr."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llm_tiered.batch.progress import Progress, WarnOnce
from tests.batch.echo import OTHER

if TYPE_CHECKING:
    import pytest

FLASH = "gemini/gemini-2.5-flash"


def make_answer(model: str = OTHER, **fields: Any) -> dict[str, Any]:
    """The fields of an answer that count."""
    return {"model": model, "input_tokens": 1000, "output_tokens": 500} | fields


def test_totals(capsys: pytest.CaptureFixture[str]) -> None:
    """The totals are rows, answers by model, tokens, dollars and seconds."""
    progress = Progress(None)
    progress.add_answer(make_answer("mlx/a"), Decimal(0))
    progress.add_answer(make_answer(FLASH), Decimal("0.001"))
    progress.add_answer(make_answer(FLASH), Decimal("0.002"))
    progress.add_failure({"id": None, "line": 7, "error": "no model\n  could answer"})
    progress.add_skipped()
    progress.close()
    printed = capsys.readouterr()
    assert printed.out == ""
    *lines, totals = printed.err.splitlines()
    assert lines == [
        "line 7: no model could answer",
        f"{FLASH}: 2 answers, 2,000 + 1,000 tokens, $0.0030",
        "mlx/a: 1 answer, 1,000 + 500 tokens, $0.0000",
    ]
    assert totals.startswith(
        "5 rows: 3 answered, 1 failed, 1 skipped as done; 3,000 + 1,500 tokens, $0.0030, "
    )
    assert totals.endswith(" s")


def test_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown tokens count as none, and an unknown price is reported."""
    progress = Progress(None)
    progress.add_answer(make_answer(input_tokens=None, output_tokens=None), None)
    progress.close()
    first, *_ = capsys.readouterr().err.splitlines()
    assert first == f"{OTHER}: 1 answer, 0 + 0 tokens, $0.0000 and 1 without a known price"


def test_stopped_early(capsys: pytest.CaptureFixture[str]) -> None:
    """A batch that was stopped says how many of its rows are done."""
    progress = Progress(12)
    progress.add_skipped()
    progress.close()
    assert "1 of 12 rows: 0 answered, 0 failed, 1 skipped" in capsys.readouterr().err


def test_warn_once(caplog: pytest.LogCaptureFixture) -> None:
    """A warning about the same models passes once, even if the seconds in its reason differ."""
    logger = logging.getLogger("llm_tiered.test")
    logger.addFilter(WarnOnce())
    for model in "ab":
        for seconds in (60, 59):
            logger.warning("%s answers for %s. %s", model, "small", f"{seconds} s left")
    logger.warning("Something else")
    assert [record.getMessage() for record in caplog.records] == [
        "a answers for small. 60 s left",
        "b answers for small. 60 s left",
        "Something else",
    ]
