"""The rules of the config: what a rule can ask of a prompt, and what it then decides."""

from __future__ import annotations

import re
import unicodedata
from datetime import time
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    TypeAdapter,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from ..wording import did_you_mean
from .terms import HIGHEST, LOWEST, Kept
from .user_models import STRICT
from .values import Complexity, Words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Secret = Literal["keys", "cards", "ibans"]

# Names of scripts in Unicode.
SCRIPTS = (
    *("arabic", "armenian", "bengali", "cyrillic", "devanagari", "ethiopic", "georgian", "greek"),
    *("gujarati", "gurmukhi", "han", "hangul", "hebrew", "hiragana", "kannada", "katakana"),
    *("khmer", "lao", "latin", "malayalam", "mongolian", "myanmar", "sinhala", "tamil", "telugu"),
    *("thai", "tibetan"),
)


class Lengths(NamedTuple):
    """A range of lengths in characters, both ends included; without a `most` it is open."""

    least: int
    most: int | None

    def __str__(self) -> str:
        return f"{self.least}+" if self.most is None else f"{self.least}-{self.most}"


class Hours(NamedTuple):
    """A part of the day, the end excluded; it may go past midnight."""

    start: time
    end: time

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


A_LENGTH = Words("characters, such as 2000+ or 100-500")
SOME_HOURS = Words("hours, such as 22:00-6:00")
_SOME_TEXTS = Words("a text or a list of texts")
_SOME_NAMES = Words("a name or a list of names; * stands for anything")
_SOME_SECRETS = Words(f"true, or a list of {', '.join(get_args(Secret))}")
_SOME_SCRIPTS = Words(f"a script or a list of {', '.join(SCRIPTS)}")


def _texts(value: Any, expected: str) -> tuple[str, ...]:
    entries = list(value) if isinstance(value, (list, tuple)) else [value]
    # YAML reads a bare number as a number, and a bare yes or no as true or false.
    if any(isinstance(each, bool) for each in entries):
        raise ValueError(f"found {value!r}, expected {expected} (put yes and no in quotes)")
    texts = [str(each).strip() for each in entries if isinstance(each, (str, int))]
    if not entries or len(texts) < len(entries) or "" in texts:
        raise ValueError(f"found {value!r}, expected {expected}")
    return tuple(dict.fromkeys(texts))


def _some(words: Words, among: tuple[str, ...] = ()) -> Callable[[Any], tuple[str, ...]]:
    """The validator of a list of texts, which may also be one text alone."""

    def parse(value: Any) -> tuple[str, ...]:
        if value is None:
            raise ValueError(f"found nothing, expected {words.text}")
        texts = _texts(value, words.text)
        for text in texts if among else ():
            if text not in among:
                hint = did_you_mean(text, among) or f"expected {words.text}"
                raise ValueError(f"found {text!r}, {hint}")
        return texts

    return parse


def _any_or_some(value: Any) -> Any:
    return value if isinstance(value, bool) else _some(_SOME_NAMES)(value)


def _some_secrets(value: Any) -> tuple[str, ...]:
    kinds = get_args(Secret)
    return kinds if value is True else _some(_SOME_SECRETS, kinds)(value)


def _lengths(value: Any) -> Lengths:
    if isinstance(value, Lengths):
        return value
    match = re.fullmatch(r"(\d{1,9})(?:\+|\s*-\s*(\d{1,9}))", str(value).strip())
    least, most = (int(match[1]), int(match[2]) if match[2] else None) if match else (1, 0)
    if most is not None and least > most:
        raise ValueError(f"found {value!r}, expected {A_LENGTH.text}")
    return Lengths(least, most)


def _clock(hour: str, minute: str | None) -> time:
    """A time of day, which is midnight for 24:00. Raises ValueError."""
    if int(hour) == 24 and not int(minute or 0):
        return time()
    return time(int(hour), int(minute or 0))


def _hours(value: Any) -> Hours:
    if isinstance(value, Hours):
        return value
    match = re.fullmatch(r"(\d{1,2})(?::(\d\d))?\s*-\s*(\d{1,2})(?::(\d\d))?", str(value).strip())
    start = end = time()
    if match:
        try:
            start, end = _clock(match[1], match[2]), _clock(match[3], match[4])
        except ValueError:
            start = end
    if start == end:
        raise ValueError(f"found {value!r}, expected {SOME_HOURS.text}")
    return Hours(start, end)


_Texts = Annotated[tuple[str, ...], BeforeValidator(_some(_SOME_TEXTS)), _SOME_TEXTS]
_Names = Annotated[tuple[str, ...], BeforeValidator(_some(_SOME_NAMES)), _SOME_NAMES]
_AnyOrSome = Annotated[
    tuple[str, ...] | bool | None,
    BeforeValidator(_any_or_some),
    Words("true, false, or a list of names; * stands for anything"),
]

TEXT_CONDITIONS = ("length", "words", "regex", "secrets", "script")
REQUEST_CONDITIONS = (
    *("schema", "tools", "attachments", "template", "fragments", "time", "system"),
)
EFFECTS = ("complexity", "task", "tier", "place", "forbid")


class Rule(BaseModel):
    """What a prompt must be like, and what that decides.

    All conditions must hold; of the entries of a list, one is enough. A rule without conditions
    holds for every prompt.
    """

    model_config = STRICT

    name: Annotated[str, Words("lower-case letters, digits, - and _")] = Field(
        default="",
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="Name of the rule in reasons, reports and the log; without one, its number",
    )
    words: _Texts = Field(default=(), description="Words or phrases of the text, in any case")
    regex: Annotated[str | None, Words("a regular expression")] = Field(
        default=None, description="Pattern that matches somewhere in the text, within 0.25 s"
    )
    secrets: Annotated[tuple[Secret, ...], BeforeValidator(_some_secrets), _SOME_SECRETS] = Field(
        default=(), description="Keys and tokens, card numbers, or IBANs in the text"
    )
    script: Annotated[
        tuple[str, ...], BeforeValidator(_some(_SOME_SCRIPTS, SCRIPTS)), _SOME_SCRIPTS
    ] = Field(default=(), description="Script that most letters of the text belong to")
    length: Annotated[Lengths | None, BeforeValidator(_lengths), A_LENGTH] = Field(
        default=None, description="Length of the text"
    )
    system: _Texts = Field(default=(), description="Words or phrases of the system prompt")
    fragments: _Names = Field(default=(), description="Alias, path or URL of a fragment (`llm -f`)")
    template: _Names = Field(default=(), description="Name of the template (`llm -t`)")
    attachments: _AnyOrSome = Field(
        default=None, description="Types of attachments, such as image or application/pdf"
    )
    tools: _AnyOrSome = Field(default=None, description="Names of tools")
    schema_: Annotated[bool | None, Words("true or false")] = Field(
        default=None, alias="schema", description="Whether the answer has to fit a schema"
    )
    time: Annotated[Hours | None, BeforeValidator(_hours), SOME_HOURS] = Field(
        default=None, description="Time of day on this machine"
    )
    complexity: Annotated[Complexity | None, Words("a whole number from 1 to 10")] = Field(
        default=None, ge=LOWEST, le=HIGHEST, description="Complexity that the prompt gets"
    )
    task: str | None = Field(default=None, description="Task that the prompt belongs to")
    tier: str | None = Field(default=None, description="Tier that the prompt goes to")
    place: Annotated[Kept | None, Words("here or own")] = Field(
        default=None,
        description="Where the prompt must stay: here on this machine, own also on others of yours",
    )
    forbid: _Texts = Field(default=(), description="Tiers that must not see the prompt")

    @property
    def label(self) -> str:
        """The rule in a sentence: "the rule contracts", or "rule 3" for one without a name."""
        return self.name if " " in self.name else f"the rule {self.name}"

    @property
    def chooses(self) -> bool:
        """Whether the rule says where a prompt goes, if the request does not."""
        return self.complexity is not None or self.task is not None or self.tier is not None

    @property
    def restricts(self) -> bool:
        """Whether the rule says where a prompt must not go, whatever the request says."""
        return self.place is not None or bool(self.forbid)

    @cached_property
    def on_text(self) -> dict[str, Any]:
        """The conditions on a text, by the names of their keys; words are `folded`."""
        return self._conditions(TEXT_CONDITIONS)

    @cached_property
    def on_request(self) -> dict[str, Any]:
        """The conditions on what else belongs to a request; words are `folded`."""
        return self._conditions(REQUEST_CONDITIONS)

    def _conditions(self, names: tuple[str, ...]) -> dict[str, Any]:
        values = {name: getattr(self, "schema_" if name == "schema" else name) for name in names}
        return {
            name: tuple(map(folded, value)) if name in ("words", "system") else value
            for name, value in values.items()
            if value not in ((), None)
        }

    @field_validator("regex")
    @classmethod
    def _valid_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compiled(pattern)
        return pattern

    @model_validator(mode="after")
    def _decides_something(self) -> Rule:
        choices = [name for name in ("complexity", "task", "tier") if getattr(self, name)]
        if len(choices) > 1:
            raise ValueError(f"found {' and '.join(choices)}, expected only one of them")
        if not choices and not self.restricts:
            raise ValueError(f"decides nothing, expected one of {', '.join(EFFECTS)}")
        if self.tier in self.forbid and self.tier:
            raise ValueError(f"the tier {self.tier} is both chosen and forbidden")
        return self

    @field_serializer("length", "time", when_used="json")
    def _range_as_written(self, value: Lengths | Hours | None) -> str | None:
        return None if value is None else str(value)

    def as_written(self) -> dict[str, Any]:
        """Return the rule's keys and values, as the config has them."""
        return self.model_dump(mode="json")

    @model_serializer(mode="wrap")
    def _as_written(self, serialize: Any) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        named = {"name": self.name} if self.label != self.name else {}
        return named | {
            name.rstrip("_"): value
            for name, value in values.items()
            if value not in (None, (), []) and name != "name"
        }


def folded(text: str) -> str:
    """Return a text so that those which differ only in case or white space are equal."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(plain.casefold().split())


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Any:
    """Return a pattern for `search` with a timeout. Raises ValueError if it is not valid."""
    import regex  # type: ignore[import-untyped]  # it has no types of its own

    try:
        return regex.compile(pattern, regex.VERSION0)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"found {pattern!r}, which is not a valid pattern: {error}") from None


def parse(entries: Sequence[Any]) -> tuple[Rule, ...]:
    """Return the rules of the config, each with a name.

    Raises pydantic.ValidationError, or ValueError if two have the same name.
    """
    rules = TypeAdapter(tuple[Rule, ...]).validate_python(tuple(entries))
    names = [rule.name for rule in rules if rule.name]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two rules have the same name, found {', '.join(twice)}")
    return tuple(
        rule if rule.name else rule.model_copy(update={"name": f"rule {number}"})
        for number, rule in enumerate(rules, start=1)
    )
