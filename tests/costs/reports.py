"""The report on a log, as tests ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_tiered.costs.savings import Report, report
from tests.make_log import END

if TYPE_CHECKING:
    from pathlib import Path

# 30 cents a million tokens of input, 3 where they were cached, 2.50 dollars a million of output.
FLASH = "gemini/gemini-2.5-flash"


def ask(log: Path, **said: Any) -> Report:
    """Give the report, compared with that model, as if it were asked for at END."""
    asked: dict[str, Any] = {"cloud_model": FLASH, "now": END}
    return report(log, **asked | said)
