"""The report on a log, with the defaults of the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_tiered.costs.money import Comparison
from llm_tiered.costs.periods import ALWAYS
from llm_tiered.costs.savings import SavingsReport, savings_report
from tests.make_log import END

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.costs.periods import Period
    from llm_tiered.costs.prices import Energy
    from llm_tiered.costs.requests import By

# 0.30 dollars per million input tokens, 0.03 for cached ones, 2.50 per million output tokens.
FLASH = "gemini/gemini-2.5-flash"


def report(
    log: Path,
    *,
    cloud_model: str | None = FLASH,
    energy: Energy | None = None,
    period: Period = ALWAYS,
    by: By | None = None,
) -> SavingsReport:
    """Return the report on a log, made at END, by default compared with FLASH."""
    return savings_report(log, Comparison(cloud_model, energy), period=period, by=by, now=END)
