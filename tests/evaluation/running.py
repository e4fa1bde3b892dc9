"""Suites that run through the echo models, and models with wrong answers."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

from llm_tiered.batch.journal import Journal
from llm_tiered.evaluation import suite
from llm_tiered.evaluation.asking import QuestionAsker
from llm_tiered.evaluation.run import Outcome, find_judges, run
from llm_tiered.evaluation.tiers import select_tiers
from tests.batch.echo import SMALL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.batch.echo import Echoes


def evaluate(
    folder: Path, *rows: dict[str, Any], names: str | None = None, **options: Any
) -> dict[str, list[float | None]]:
    """The scores of each tier in the order of the rows; None if there is none."""
    outcome, cases = outcome_of(folder, *rows, names=names, **options)
    return {
        tier: [scores[case.row.key].value if case.row.key in scores else None for case in cases]
        for tier, scores in outcome.scores.items()
    }


def outcome_of(
    folder: Path,
    *rows: dict[str, Any],
    names: str | None = None,
    judge: str | None = None,
    concurrency: int = 8,
) -> tuple[Outcome, list[suite.Case]]:
    """The outcome and the cases of a suite, whose journal is in the folder."""
    path = folder / "suite.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    cases = suite.read(path, judge).cases
    with closing(Journal(folder / "suite.results.jsonl", restart=False)) as journal:
        asker = QuestionAsker(journal, concurrency)
        return run(cases, select_tiers(names), find_judges(cases), asker), cases


def take_requests(echoes: Echoes) -> list[tuple[str, str]]:
    """The model and prompt of each request since the last call."""
    requests = [*echoes.requests]
    echoes.requests.clear()
    return requests


async def weak(model: str, prompt: str) -> str:
    """Answer wrongly as the small model, and with the prompt as any other."""
    return "wrong" if model == SMALL else prompt
