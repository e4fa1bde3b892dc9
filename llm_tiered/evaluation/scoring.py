"""What a right answer is, and what is wrong with an answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from .. import json_schema
from ..batch.formats import short

if TYPE_CHECKING:
    from collections.abc import Mapping

# The fields of a row that describe a right answer.
CRITERIA = ("exact", "contains", "regex", "schema", "numeric", "judge")

# Numbers in prose: 42, -3.5, 1,234,567.8, 6e23, .5
_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
)


@dataclass(frozen=True)
class Expected:
    """The criteria of a right answer, all of which must hold.

    `judge` is a rubric for another model, and `judge_model` the name of that model.
    """

    exact: str | None = None
    contains: tuple[str, ...] = ()
    regex: re.Pattern[str] | None = None
    numeric: float | None = None
    tolerance: float = 0.0
    schema: Mapping[str, Any] | None = None
    judge: str | None = None
    judge_model: str | None = None


def parse(fields: Mapping[str, Any], schema: Mapping[str, Any] | None) -> Expected:
    """Return the criteria in the fields of a row. Raises ValueError, with the field's name."""
    if not any(fields.get(name) is not None for name in CRITERIA):
        raise ValueError(f"nothing to score it by: expected one of {', '.join(CRITERIA)}")
    if schema is not None:
        try:
            json_schema.check(schema)
        except ValueError as error:
            raise ValueError(f"schema: {error}") from None
    contains = fields.get("contains")
    return Expected(
        exact=_text(fields, "exact"),
        contains=_texts("contains", [contains] if isinstance(contains, str) else contains),
        regex=_pattern(_text(fields, "regex")),
        numeric=_number(fields, "numeric"),
        tolerance=_tolerance(fields),
        schema=schema,
        judge=_text(fields, "judge"),
        judge_model=_text(fields, "judge_model"),
    )


def mistake(answer: str, expected: Expected) -> str | None:
    """Return what is wrong with an answer, or None. The rubric for a judge is not checked here.

    White space around the answer is ignored. `numeric` compares the last number in it, as
    lm-evaluation-harness does for GSM8K.
    """
    text = answer.strip()
    if expected.exact is not None and text != expected.exact.strip():
        return f"is not {short(expected.exact)}"
    for piece in expected.contains:
        if piece not in text:
            return f"does not contain {short(piece)}"
    if expected.regex and not expected.regex.search(text):
        return f"does not match {short(expected.regex.pattern)}"
    if expected.numeric is not None:
        number = last_number(text)
        if number is None:
            return "has no number in it"
        if not abs(number - expected.numeric) <= expected.tolerance:
            return f"says {number:g} and not {expected.numeric:g}"
    return None if expected.schema is None else schema_mistake(text, expected.schema)


def last_number(text: str) -> float | None:
    """Return the last number in a text, or None."""
    numbers = _NUMBER.findall(text.replace("\N{MINUS SIGN}", "-"))
    return float(numbers[-1].replace(",", "")) if numbers else None


def schema_mistake(text: str, schema: Mapping[str, Any]) -> str | None:
    """Return why a text is not JSON that fits the schema, or None."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "is not JSON"
    try:
        mismatch = json_schema.mismatch(value, schema)
    except ValueError as error:
        return f"can't be checked: the schema is {error}"
    return mismatch and str(mismatch)


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise ValueError(f"{name}: found {short(value)}, expected text")
    return value


def _texts(name: str, values: Any) -> tuple[str, ...]:
    if values is None:
        return ()
    if not isinstance(values, list) or not values or not all(_is_text(value) for value in values):
        raise ValueError(f"{name}: found {short(values)}, expected a string or a list of strings")
    return tuple(values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise ValueError(f"regex: {error}") from None


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < inf:
        raise ValueError(f"{name}: found {short(value)}, expected a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name}: the number is too large") from None


def _tolerance(fields: Mapping[str, Any]) -> float:
    tolerance = _number(fields, "tolerance")
    if tolerance is None:
        return 0.0
    if tolerance < 0 or fields.get("numeric") is None:
        raise ValueError("tolerance: expected 0 or more, together with 'numeric'")
    return tolerance
