"""What is said on stderr, and what an answer costs."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.batch.report import Once, Report, cost
from tests.batch.echo import OTHER

if TYPE_CHECKING:
    from tests.batch.echo import Echoes

FLASH = "gemini/gemini-2.5-flash"  # $0.30 and $2.50 a million, $0.03 out of the cache


def make_answer(model: str = OTHER, **fields: Any) -> dict[str, Any]:
    """What the report needs to know of an answer."""
    return {"model": model, "input_tokens": 1000, "output_tokens": 500} | fields


def test_sum(capsys: pytest.CaptureFixture[str]) -> None:
    """The sum tells rows, answers by model, tokens, money and time."""
    report = Report(None)
    report.add_answer(make_answer("mlx/a"), Decimal(0))
    report.add_answer(make_answer(FLASH), Decimal("0.001"))
    report.add_answer(make_answer(FLASH), Decimal("0.002"))
    report.add_failure({"id": None, "line": 7, "error": "no model\n  could answer"})
    report.add_skipped()
    report.close()
    told = capsys.readouterr()
    assert told.out == ""
    *lines, total = told.err.splitlines()
    assert lines == [
        "line 7: no model could answer",
        f"{FLASH}: 2 answers, 2,000 + 1,000 tokens, $0.0030",
        "mlx/a: 1 answer, 1,000 + 500 tokens, $0.0000",
    ]
    assert total.startswith(
        "5 rows: 3 answered, 1 failed, 1 skipped as done; 3,000 + 1,500 tokens, $0.0030, "
    )
    assert total.endswith(" s")


def test_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """Tokens that nobody has counted are none, a price that nobody knows is said to be unknown."""
    report = Report(None)
    report.add_answer(make_answer(input_tokens=None, output_tokens=None), None)
    report.close()
    first, *_ = capsys.readouterr().err.splitlines()
    assert first == f"{OTHER}: 1 answer, 0 + 0 tokens, $0.0000 and 1 without a known price"


@pytest.mark.parametrize(
    ("resolved", "json", "details", "expected"),
    [
        (FLASH, None, None, "0.00155"),
        (FLASH, {"tiered": {}, "response": {"modelVersion": "gemini-2.5-flash"}}, None, "0.00155"),
        (FLASH, {"tiered": {}, "response": None}, {"cachedContentTokenCount": 1000}, "0.00128"),
        ("mlx/a", None, None, "0"),
        ("nobody/knows", None, None, None),
        (FLASH, None, {"cachedContentTokenCount": 9999}, None),
    ],
)
async def test_cost(
    echoes: Echoes, resolved: str, json: Any, details: Any, expected: str | None
) -> None:
    """An answer costs what genai-prices says of the model that gave it."""
    response = llm.get_async_model(OTHER).prompt("Hello")
    await response
    response.set_resolved_model(resolved)
    response.response_json = json
    response.set_usage(input=1000, output=500, details=details)
    assert cost(response) == (None if expected is None else Decimal(expected))


def test_once(caplog: pytest.LogCaptureFixture) -> None:
    """A warning about the same models is let through once, whatever the seconds in its reason."""
    logger = logging.getLogger("llm_tiered.test")
    logger.addFilter(Once())
    for model in "ab":
        for seconds in (60, 59):
            logger.warning("%s answers for %s. %s", model, "small", f"{seconds} s left")
    logger.warning("Something else")
    assert [record.getMessage() for record in caplog.records] == [
        "a answers for small. 60 s left",
        "b answers for small. 60 s left",
        "Something else",
    ]
