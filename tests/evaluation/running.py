"""A suite through the echoes, and what they say if nobody tells them otherwise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llm_tiered.batch.journal import Journal
from llm_tiered.evaluation import suite, tiers
from llm_tiered.evaluation.asking import Asking
from llm_tiered.evaluation.run import Outcome, find_judges, run
from tests.batch.echo import SMALL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.batch.echo import Echoes


def evaluate(
    folder: Path, *rows: dict[str, Any], names: str | None = None, **how: Any
) -> dict[str, list[float | None]]:
    """The scores of each tier, in the order of the rows; None where there is none."""
    outcome, found = outcome_of(folder, *rows, names=names, **how)
    return {
        tier: [
            scores[case.row.key].value if case.row.key in scores else None for case in found.cases
        ]
        for tier, scores in outcome.scores.items()
    }


def outcome_of(
    folder: Path,
    *rows: dict[str, Any],
    names: str | None = None,
    judge: str | None = None,
    concurrency: int = 8,
) -> tuple[Outcome, suite.Suite]:
    """What came of a suite, which has its journal in the folder."""
    path = folder / "suite.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found = suite.read(path, judge)
    journal = Journal(folder / "suite.results.jsonl", restart=False)
    try:
        asking = Asking(journal, concurrency)
        wanted = tiers.find(names)
        return run(found.cases, wanted, find_judges(found.cases), asking), found
    finally:
        journal.close()


def asked(echoes: Echoes) -> list[tuple[str, str]]:
    """Who was asked what since the last time."""
    found = [*echoes.requests]
    echoes.requests.clear()
    return found


async def weak(model: str, prompt: str) -> str:
    """The small model is always wrong, the others answer with the prompt."""
    return "wrong" if model == SMALL else prompt
