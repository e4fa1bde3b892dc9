"""A suite: a JSONL file with a prompt on each line, and what counts as a right answer."""

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
from . import scoring
from .tiers import FIXED_OPTIONS, tier_options

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.tiers import Tier
    from .scoring import Expected


@dataclass(frozen=True)
class Case:
    """A row of the suite: the request, its task, and what is expected of the answer."""

    row: Row
    task: str | None
    expected: Expected


@dataclass(frozen=True)
class Suite:
    """The cases of a file, and the rows that can't be used."""

    cases: list[Case]
    bad: list[BadRow]


def read(path: Path, judge: str | None) -> Suite:
    """Return the suite in a file. `judge` is the model for rubrics that do not name one.

    Raises OSError, and RequestError if the file has no usable row.
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
            # A good row is a JSON object.
            cases.append(_case(row, json.loads(lines[row.line - 1]), judge))
        except ValueError as error:
            bad.append(BadRow(row.line, row.id, str(error)))
    if not cases:
        first = f"; line {bad[0].line}: {bad[0].error}" if bad else ""
        raise RequestError(f"{path} has no usable row{first}")
    return Suite(_with_keys(cases), bad)


def for_tier(case: Case, tier: Tier) -> Row:
    """Return the row for a tier. Its key changes with the tier's model and options."""
    request = [case.row.key, tier.name, tier.model_id, tier.options]
    return replace(case.row, options=tier_options(tier, case.row.options), key=digest(request))


def digest(value: Any) -> str:
    """Return a hash of a value that is the same in every run."""
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
            raise ValueError("judge: needs a judge_model, or --judge")
        expected = replace(expected, judge_model=judge)
    options = {name: value for name, value in row.options.items() if name not in FIXED_OPTIONS}
    return Case(replace(row, options=options), task, expected)


def _with_keys(cases: list[Case]) -> list[Case]:
    """Return the cases with keys made of their request and the number of earlier equal ones.

    So a row keeps its key when it moves. What is expected is not part of the key: a row that is
    scored in a different way is not asked again.
    """
    seen: Counter[str] = Counter()
    cases_with_keys = []
    for case in cases:
        row = case.row
        request = digest([row.prompt, row.system, row.schema, row.options])
        cases_with_keys.append(replace(case, row=replace(row, key=f"{request} {seen[request]}")))
        seen[request] += 1
    return cases_with_keys
