"""What the config file can say, with the defaults that hold without it."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from ..mlx.catalog import PREFIX
from ..wording import did_you_mean
from .terms import HIGHEST, LOWEST, Fallback
from .user_models import STRICT, UserModel


class _Section(BaseModel):
    model_config = STRICT


class Span(NamedTuple):
    """A range of complexity, both ends included.

    With `low > high`, which only the environment's thresholds can bring about, it is empty.
    """

    low: int
    high: int

    def __str__(self) -> str:
        if self.low > self.high:
            return "none"
        return f"{self.low}-{self.high}" if self.low < self.high else str(self.low)


def _parse_span(value: Any) -> Span:
    if isinstance(value, Span):
        return value
    match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", str(value))
    span = Span(int(match[1]), int(match[2] or match[1])) if match else Span(0, 0)
    if not LOWEST <= span.low <= span.high <= HIGHEST:
        raise ValueError(f"found {value!r}, expected a range such as '1-4' within 1-10")
    return span


class Tier(_Section):
    """A named range of complexity with the model that serves it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    complexity: Annotated[Span, BeforeValidator(_parse_span)]
    model: str
    options: dict[str, Any] = {}
    escalate: bool = False

    @property
    def local(self) -> bool:
        """Whether its model runs on this machine, so that no request leaves it."""
        return self.model.startswith(PREFIX)

    def covers(self, complexity: int) -> bool:
        """Whether a request of this complexity belongs here."""
        return self.complexity.low <= complexity <= self.complexity.high


class Task(_Section):
    """A named kind of work, and what holds for its requests; None leaves it to the tier."""

    complexity: int
    cache: bool | None = None
    escalate: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _number_alone(cls, value: Any) -> Any:
        return value if isinstance(value, (dict, Task)) else {"complexity": value}

    @model_serializer
    def _as_written(self) -> int | dict[str, Any]:
        said = {name: getattr(self, name) for name in type(self).model_fields}
        said = {name: value for name, value in said.items() if value is not None}
        return self.complexity if len(said) == 1 else said

    @field_validator("complexity")
    @classmethod
    def _on_the_scale(cls, complexity: int) -> int:
        if not LOWEST <= complexity <= HIGHEST:
            raise ValueError(f"found {complexity}, expected {LOWEST} to {HIGHEST}")
        return complexity


DEFAULT_TASKS = {
    name: Task(complexity=complexity)
    for name, complexity in {
        "content_validation": 3,
        "exercise_generation": 4,
        "progression_generation": 4,
        "theory_analysis": 5,
        "voicing_generation": 5,
        "creative_generation": 6,
        "tutorial_generation": 7,
        "curriculum_planning": 8,
    }.items()
}


def _parse_share(value: Any) -> float:
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"found {value!r}, expected a share such as 25%")
    return share


Share = Annotated[float, BeforeValidator(_parse_share)]

Dollars = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class Budget(_Section):
    """What may be spent on cloud models, in dollars; None is no limit.

    `unpriced` says whether a model whose price nobody knows may be asked all the same.
    """

    day: Dollars | None = None
    month: Dollars | None = None
    unpriced: Literal["skip", "allow"] = "skip"


class Electricity(_Section):
    """What local answers cost: dollars a kilowatt-hour, and watts while answering."""

    price_per_kwh: Dollars
    watts: float = Field(gt=0, allow_inf_nan=False)


_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

# What lies further back is before any date that Python knows.
_OLDEST = timedelta(weeks=52_000)


def _parse_age(value: Any) -> Any:
    if value is None or isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"\s*(\d{1,6})\s*([mhdw])\s*", str(value))
    age = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
    if not timedelta() < age <= _OLDEST:
        raise ValueError(f"found {value!r}, expected an age such as 12h, 7d or 4w")
    return age


class Cache(_Section):
    """Whether requests that were answered before are answered from the log.

    `ttl` is how old an answer may be; requests with a temperature above `temperature_max` are
    always asked anew. None is no limit.
    """

    enabled: bool = True
    ttl: Annotated[timedelta | None, BeforeValidator(_parse_age)] = None
    temperature_max: float | None = Field(default=None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _switch_alone(cls, value: Any) -> Any:
        return {"enabled": value} if isinstance(value, bool) else value


def _default_tiers() -> tuple[Tier, ...]:
    return (
        Tier(
            name="small",
            complexity=Span(1, 4),
            model="mlx/Phi-3.5-mini-instruct-4bit",
            options={"max_tokens": 2048},
        ),
        Tier(
            name="medium",
            complexity=Span(5, 7),
            model="mlx/Qwen2.5-7B-Instruct-4bit",
            options={"max_tokens": 4096},
        ),
        Tier(
            name="cloud",
            complexity=Span(8, 10),
            model="gemini/gemini-flash-latest",
            options={"timeout": 120},
        ),
    )


class Config(_Section):
    """What the config file can say; each default is what holds without it."""

    tiers: tuple[Tier, ...] = Field(default_factory=_default_tiers)
    tasks: dict[str, Task] = DEFAULT_TASKS
    estimate: bool = True
    default_complexity: int = Field(default=5, ge=LOWEST, le=HIGHEST)
    rollout: dict[str, Share] = {}
    cache: Cache = Cache(enabled=False)
    budget: Budget = Budget()
    electricity: Electricity | None = None
    fallback: Fallback = "any"
    local_only: bool = False
    allow_cpu: bool = False
    log_api: bool = True
    memory_limit: Annotated[ByteSize, Field(gt=0)] | None = None
    kv_disk: Annotated[ByteSize, Field(gt=0)] | None = None
    models: tuple[UserModel, ...] = ()

    @field_validator("memory_limit", "kv_disk", mode="wrap")
    @classmethod
    def _with_unit(cls, value: Any, parse: Any) -> Any:
        try:
            return parse(value)
        except ValueError:
            raise ValueError(f"found {value!r}, expected a size such as 12GB") from None

    @field_validator("tasks")
    @classmethod
    def _with_default_tasks(cls, tasks: dict[str, Task]) -> dict[str, Task]:
        return DEFAULT_TASKS | tasks

    @field_validator("tiers")
    @classmethod
    def _whole_scale(cls, tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
        names = [tier.name for tier in tiers]
        if len(set(names)) < len(names):
            raise ValueError(f"two tiers have the same name, found {', '.join(names)}")
        for complexity in range(LOWEST, HIGHEST + 1):
            found = [tier.name for tier in tiers if tier.covers(complexity)]
            if not found:
                raise ValueError(f"no tier covers complexity {complexity}; each of 1-10 needs one")
            if len(found) > 1:
                raise ValueError(f"complexity {complexity} belongs to {' and '.join(found)}")
        return tuple(sorted(tiers, key=lambda tier: tier.complexity))

    @model_validator(mode="after")
    def _rollout_has_names(self) -> Config:
        *lower, highest = [tier.name for tier in self.tiers]
        for name in self.rollout:
            if name == highest:
                raise ValueError(f"rollout.{name}: no tier is above it to take the rest")
            if name not in lower and name not in self.tasks:
                hint = did_you_mean(name, [*lower, *self.tasks])
                hint = hint and f", {hint}"
                raise ValueError(f"rollout.{name}: there is no tier or task of that name{hint}")
        return self
