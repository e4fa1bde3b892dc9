"""The keys of the config file, with their defaults and what they mean."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from ..wording import did_you_mean
from .terms import HIGHEST, LOWEST, WHOSE, WITHIN, Fallback
from .tiers import Tier, default_tiers
from .user_models import STRICT, UserModel
from .values import (
    A_SHARE,
    Age,
    Complexity,
    DollarLimit,
    Dollars,
    KeepWarm,
    Share,
    Size,
    Words,
)

if TYPE_CHECKING:
    from .rules import Rule
else:
    Rule = Any  # building the class takes as long as all others here, and few configs have rules


class _Section(BaseModel):
    model_config = STRICT


class Task(_Section):
    """A named kind of work and its settings; None leaves a setting to the tier or the config."""

    complexity: Complexity = Field(description="Complexity of the task")
    cache: bool | None = Field(
        default=None, description="Whether earlier answers are repeated for this task"
    )
    escalate: bool | None = Field(
        default=None,
        description="Whether local answers are checked, and weak ones passed to a higher tier",
    )

    @model_validator(mode="before")
    @classmethod
    def _number_alone(cls, value: Any) -> Any:
        return value if isinstance(value, (dict, Task)) else {"complexity": value}

    @model_serializer
    def _as_written(self) -> int | dict[str, Any]:
        values = {name: getattr(self, name) for name in type(self).model_fields}
        values = {name: value for name, value in values.items() if value is not None}
        return self.complexity if len(values) == 1 else values

    @field_validator("complexity")
    @classmethod
    def _on_the_scale(cls, complexity: int) -> int:
        if not LOWEST <= complexity <= HIGHEST:
            raise ValueError(f"found {complexity}, expected {LOWEST} to {HIGHEST}")
        return complexity


_NAMED_TASKS = Words("names, each with a complexity or the keys below")

DEFAULT_TASKS = {
    name: Task.model_construct(complexity=complexity)
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


class Budget(_Section):
    """What may be spent on cloud models."""

    day: DollarLimit = Field(default=None, description="Limit per day; empty means no limit")
    month: DollarLimit = Field(default=None, description="Limit per month; empty means no limit")
    unpriced: Literal["skip", "allow"] = Field(
        default="skip",
        description="Whether a model without a known price is skipped while there is a limit",
    )


class Electricity(_Section):
    """What local answers cost."""

    price_per_kwh: Dollars = Field(description="Price of a kilowatt-hour")
    watts: Annotated[float, Words("watts, such as 40")] = Field(
        gt=0, allow_inf_nan=False, description="Power that this machine draws while it answers"
    )


class Cache(_Section):
    """Whether and when a request is answered from the log."""

    enabled: bool = Field(
        default=True,
        description="Whether a repeated request gets its earlier answer",
    )
    ttl: Age = Field(
        default=None, description="Age up to which answers are repeated; empty means any age"
    )
    temperature_max: Annotated[float | None, Words("a temperature such as 0.3")] = Field(
        default=None,
        ge=0,
        description="Temperature up to which answers are repeated; empty means any temperature",
    )

    @model_validator(mode="before")
    @classmethod
    def _switch_alone(cls, value: Any) -> Any:
        return {"enabled": value} if isinstance(value, bool) else value


def sections() -> dict[str, type[BaseModel]]:
    """Return the keys that have keys of their own, with the classes of these."""
    from .rules import Rule

    return {
        "tiers": Tier,
        "tasks": Task,
        "rules": Rule,
        "cache": Cache,
        "budget": Budget,
        "electricity": Electricity,
        "models": UserModel,
    }


class Config(_Section):
    """Everything that the config file can say."""

    tiers: Annotated[tuple[Tier, ...], Words("a list")] = Field(
        default_factory=default_tiers,
        description="The tiers; together they cover 1 to 10, each number once",
    )
    tasks: Annotated[dict[str, Task], _NAMED_TASKS] = Field(
        default=DEFAULT_TASKS,
        description="Named kinds of work; yours are added to the default ones",
    )
    rules: Annotated[tuple[Rule, ...], Words("a list")] = Field(
        default=(),
        description="Rules for prompts: the first that matches decides",
    )
    estimate: bool = Field(
        default=True,
        description="Whether a missing complexity is estimated from the text of the prompt",
    )
    default_complexity: Complexity = Field(
        default=5,
        ge=LOWEST,
        le=HIGHEST,
        description="Complexity of a prompt without one, if it is not estimated",
    )
    rollout: Annotated[dict[str, Share], Words(f"names, each with {A_SHARE.text}")] = Field(
        default={},
        description="Share of a tier's or task's prompts that stay in it; the rest go one tier up",
    )
    cache: Annotated[Cache, Words("true, false or the keys below")] = Field(
        default=Cache.model_construct(enabled=False),
        description="Whether earlier answers are repeated",
    )
    budget: Annotated[Budget, Words("the keys below")] = Field(
        default=Budget.model_construct(),
        description="What cloud models may cost before they are skipped",
    )
    electricity: Annotated[Electricity | None, Words("the keys below")] = Field(
        default=None,
        description="What local answers cost, for reports; empty means that they are free",
    )
    escalate_stuck: bool = Field(
        default=True,
        description="Whether the next tier up takes over from a model that is stuck in a tool loop",
    )
    fallback: Fallback = Field(
        default="any", description="Which other models may answer if the tier's own can't"
    )
    local_only: bool = Field(default=False, description="Whether all prompts stay on this machine")
    private: bool = Field(
        default=False,
        description="Whether all prompts stay on this machine and others of yours",
    )
    allow_cpu: bool = Field(
        default=False,
        description="Whether models of more than a billion parameters may run without a GPU",
    )
    log_api: bool = Field(
        default=True, description="Whether prompts made through the Python API are logged"
    )
    memory_limit: Size = Field(
        default=None,
        description="Memory for all local models together; empty means as much as is safe",
    )
    kv_disk: Size = Field(
        default=None,
        description="Disk space for KV caches, so that `llm -c` need not read everything again; "
        "empty means none",
    )
    keep_warm: KeepWarm = Field(
        default=timedelta(minutes=5),
        description="How long local models stay in memory after the last answer; 0: not at all",
    )
    models: Annotated[tuple[UserModel, ...], Words("a list")] = Field(
        default=(),
        description="Local models of your own, added to those of the plugin",
    )

    @field_validator("tasks")
    @classmethod
    def _with_default_tasks(cls, tasks: dict[str, Task]) -> dict[str, Task]:
        return DEFAULT_TASKS | tasks

    @field_validator("rules", mode="before")
    @classmethod
    def _parsed_rules(cls, rules: Any) -> Any:
        if not rules or not isinstance(rules, (list, tuple)):
            return rules
        from .rules import parse

        return parse(rules)

    @field_validator("tiers")
    @classmethod
    def _whole_scale(cls, tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
        names = [tier.name for tier in tiers]
        if len(set(names)) < len(names):
            raise ValueError(f"two tiers have the same name, found {', '.join(names)}")
        for complexity in range(LOWEST, HIGHEST + 1):
            owners = [tier.name for tier in tiers if tier.covers(complexity)]
            if not owners:
                raise ValueError(f"no tier covers complexity {complexity}; each of 1-10 needs one")
            if len(owners) > 1:
                raise ValueError(f"complexity {complexity} belongs to {' and '.join(owners)}")
        return tuple(sorted(tiers, key=lambda tier: tier.complexity))

    @model_validator(mode="after")
    def _rollout_has_names(self) -> Config:
        *lower, highest = [tier.name for tier in self.tiers]
        for name in self.rollout:
            if name == highest:
                raise ValueError(f"rollout.{name}: there is no higher tier for the rest")
            if name not in lower and name not in self.tasks:
                hint = did_you_mean(name, [*lower, *self.tasks])
                hint = hint and f", {hint}"
                raise ValueError(f"rollout.{name}: there is no tier or task of that name{hint}")
        return self

    @model_validator(mode="after")
    def _rules_have_names(self) -> Config:
        known = {"task": list(self.tasks), "tier": [tier.name for tier in self.tiers]}
        places = {tier.name: tier.place for tier in self.tiers}
        for number, rule in enumerate(self.rules):
            named = [("task", "task", rule.task), ("tier", "tier", rule.tier)]
            named += [("forbid", "tier", name) for name in rule.forbid]
            for key, kind, name in named:
                if name is not None and name not in known[kind]:
                    hint = did_you_mean(name, known[kind]) or f"known are {', '.join(known[kind])}"
                    raise ValueError(
                        f"rules[{number}].{key}: found {name!r}, but there is no {kind} of that "
                        f"name; {hint}"
                    )
            if rule.place and rule.tier and places[rule.tier] not in WITHIN[rule.place]:
                raise ValueError(
                    f"rules[{number}].tier: {rule.tier} is not on "
                    f"{WHOSE[rule.place]}, which contradicts place: {rule.place}"
                )
        return self
