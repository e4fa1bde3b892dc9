"""A suite: JSONL with a prompt a line and what a right answer to it is."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..batch import rows
from ..batch.rows import BadRow, Row
from ..errors import RequestError
from ..router.options import TieredOptions
from . import scoring, tiers

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.sections import Tier
    from .scoring import Expected


@dataclass(frozen=True)
class Case:
    """A row of the suite: what is asked, the kind of work it is, and what is expected."""

    row: Row
    task: str | None
    expected: Expected


@dataclass(frozen=True)
class Suite:
    """The rows that can be asked, and those that can't."""

    cases: list[Case]
    bad: list[BadRow]


def read(path: Path, judge: str | None) -> Suite:
    """The suite in a file; `judge` is the model for rubrics without one of their own.

    Raises OSError, and RequestError if no row of it can be asked.
    """
    with path.open("rb") as file:
        lines = file.readlines()
    cases: list[Case] = []
    bad: list[BadRow] = []
    for row in rows.read(lines, "jsonl", rows.Defaults("tiered", TieredOptions)):
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        try:
            # That it is an object has been found out.
            cases.append(_case(row, json.loads(lines[row.line - 1]), judge))
        except ValueError as error:
            bad.append(BadRow(row.line, row.id, str(error)))
    if not cases:
        first = f"; line {bad[0].line}: {bad[0].error}" if bad else ""
        raise RequestError(f"{path} has no row that can be asked{first}")
    return Suite(_numbered(cases), bad)


def for_tier(case: Case, tier: Tier) -> Row:
    """The row as the tier is asked. Its key changes when the tier gets another model."""
    asked = [case.row.key, tier.name, tier.model, tier.options]
    return replace(case.row, options=tiers.options(tier, case.row.options), key=digest(asked))


def digest(value: Any) -> str:
    """A name for a value, the same each time."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _case(row: Row, fields: dict[str, Any], judge: str | None) -> Case:
    for name in ("tier", "complexity"):
        if name in row.options:
            raise ValueError(f"{name}: each row goes to all tiers, and can't choose one")
    task = row.options.get("task")
    expected = scoring.parse(fields, row.schema)
    if expected.judge and not expected.judge_model:
        if not judge:
            raise ValueError("judge: expected a judge_model beside it, or --judge")
        expected = replace(expected, judge_model=judge)
    options = {name: value for name, value in row.options.items() if name not in tiers.FIXED}
    return Case(replace(row, options=options), task, expected)


def _numbered(cases: list[Case]) -> list[Case]:
    """The same, with keys that stay when lines move: by what is asked, and how often it has been.

    What is expected is not part of it: to score an answer in another way, nobody is asked again.
    """
    seen: Counter[str] = Counter()
    numbered = []
    for case in cases:
        row = case.row
        asked = digest([row.prompt, row.system, row.schema, row.options])
        numbered.append(replace(case, row=replace(row, key=f"{asked} {seen[asked]}")))
        seen[asked] += 1
    return numbered
