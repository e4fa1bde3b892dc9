"""The kinds of values in the config file: how they are written, and what they become."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BeforeValidator, ByteSize, Field, PlainSerializer, WrapValidator

from .price import ConfigPrice
from .terms import HIGHEST, LOWEST

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class Words(NamedTuple):
    """The values that a config key allows, in words for errors and the documentation."""

    text: str


_TYPES: dict[Any, str] = {
    bool: "true or false",
    str: "text",
    Path: "a folder",
}


def in_words(field: FieldInfo) -> str:
    """Return the values that a key allows, in words."""
    for item in field.metadata:
        if isinstance(item, Words):
            return item.text
    if get_origin(field.annotation) is Literal:
        *words, last = get_args(field.annotation)
        return f"{', '.join(words)} or {last}"
    [kind] = {*(get_args(field.annotation) or [field.annotation])} - {type(None)}
    return _TYPES[kind]


Complexity = Annotated[int, Words("a whole number from 1 to 10")]


class Span(NamedTuple):
    """A range of complexity, both ends included.

    With `low > high` it is empty.
    """

    low: int
    high: int

    def __str__(self) -> str:
        if self.low > self.high:
            return "none"
        return f"{self.low}-{self.high}" if self.low < self.high else str(self.low)


# The range of a tier that is only used by name.
NO_COMPLEXITY = Span(LOWEST, LOWEST - 1)

_A_RANGE = Words("a range such as 1-4 within 1-10")


def parse_span(value: Any) -> Span:
    """Return a range as the config has it. Raises ValueError."""
    if isinstance(value, Span):
        return value
    match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", str(value))
    span = Span(int(match[1]), int(match[2] or match[1])) if match else Span(0, 0)
    if not LOWEST <= span.low <= span.high <= HIGHEST:
        raise ValueError(f"found {value!r}, expected {_A_RANGE.text}")
    return span


Range = Annotated[Span, BeforeValidator(parse_span), _A_RANGE]


A_SHARE = Words("a share such as 25%")


def _parse_share(value: Any) -> float:
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"found {value!r}, expected {A_SHARE.text}")
    return share


Share = Annotated[float, BeforeValidator(_parse_share), A_SHARE]

_AN_AMOUNT = Words("dollars, such as 1.50")

Dollars = Annotated[Decimal, Field(ge=0, allow_inf_nan=False), _AN_AMOUNT]
DollarLimit = Annotated[Dollars | None, _AN_AMOUNT]
DollarsAnHour = Annotated[Dollars | None, _AN_AMOUNT]


_A_PRICE = Words("{input: 0.10, output: 0.40}, in dollars per million tokens")


def _parse_price(value: Any) -> Any:
    if value is None or isinstance(value, ConfigPrice):
        return value
    wrong = ValueError(f"found {value!r}, expected {_A_PRICE.text}")
    if not isinstance(value, dict) or {*value} != {"input", "output"}:
        raise wrong
    if any(isinstance(each, bool) for each in value.values()):
        raise wrong
    try:
        # As text, since YAML reads 1e-2 as such, and 0.1 stays exact.
        price = ConfigPrice(**{name: Decimal(str(each)) for name, each in value.items()})
    except InvalidOperation:
        raise wrong from None
    if not all(each.is_finite() and each >= 0 for each in (price.input, price.output)):
        raise wrong
    return price


def _price_as_written(price: ConfigPrice | None) -> dict[str, str] | None:
    return None if price is None else price.to_json()


PricePerMillion = Annotated[
    ConfigPrice | None,
    BeforeValidator(_parse_price),
    PlainSerializer(_price_as_written, when_used="json"),
    _A_PRICE,
]


_AN_AGE = Words("an age such as 12h, 7d or 4w")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SHORT_UNITS = {"s": "seconds", **_UNITS}

# An older moment would come before the first date of Python's calendar.
_OLDEST = timedelta(weeks=52_000)


def _parse_age(value: Any) -> Any:
    if value is None or isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"\s*(\d{1,6})\s*([mhdw])\s*", str(value))
    age = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
    if not timedelta() < age <= _OLDEST:
        raise ValueError(f"found {value!r}, expected {_AN_AGE.text}")
    return age


def _as_written(time: timedelta | None) -> str | None:
    """Return a time in the largest unit that it is a whole number of."""
    if time is None:
        return None
    units = ((unit, timedelta(**{name: 1})) for unit, name in reversed(_SHORT_UNITS.items()))
    unit, length = next((unit, length) for unit, length in units if not time % length)
    return f"{time // length}{unit}" if time else "0"


_TO_JSON = PlainSerializer(_as_written, when_used="json")

Age = Annotated[timedelta | None, BeforeValidator(_parse_age), _TO_JSON, _AN_AGE]


_A_TIME = Words("a time such as 30s, 5m or 2h, or 0")


def _parse_keep_warm(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"\s*(?:0|(\d{1,6})\s*([smhdw]))\s*", str(value))
    if match is None:
        raise ValueError(f"found {value!r}, expected {_A_TIME.text}")
    time = timedelta(**{_SHORT_UNITS[match[2]]: int(match[1])}) if match[2] else timedelta()
    return min(time, _OLDEST)


KeepWarm = Annotated[timedelta, BeforeValidator(_parse_keep_warm), _TO_JSON, _A_TIME]


_A_SIZE = Words("a size such as 12GB")


def _parse_size(value: Any, parse: Any) -> Any:
    try:
        return parse(value)
    except ValueError:
        raise ValueError(f"found {value!r}, expected {_A_SIZE.text}") from None


# Less than a kilobyte must be a number without its unit.
Size = Annotated[Annotated[ByteSize, Field(ge=10**3)] | None, WrapValidator(_parse_size), _A_SIZE]
