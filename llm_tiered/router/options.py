"""The options of a request to `tiered`."""

# llm loads this whenever it starts, and evaluating annotations that are strings takes a while:
# no `from __future__ import annotations` here.

from typing import Any

import llm
from pydantic import ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from ..config.terms import HIGHEST, LOWEST, Fallback


class TieredOptions(llm.Options):
    """The options of `tiered`. None leaves the choice to the config.

    The options of the tiers' own models are allowed, too. Raises pydantic.ValidationError.
    """

    # llm registers the model whenever it starts, and few of its commands need the options.
    model_config = ConfigDict(defer_build=True, extra="allow")

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if self.model_extra:
            from .model_options import check

            check(self.model_extra, own=type(self).model_fields)

    complexity: int | None = Field(
        default=None, ge=LOWEST, le=HIGHEST, description="How hard the task is, from 1 to 10."
    )
    task: str | None = Field(
        default=None, description="A named kind of work with its own complexity."
    )
    tier: str | None = Field(
        default=None, description="The tier to use, by name; overrides complexity and task."
    )
    local_only: bool | None = Field(
        default=None, description="Never send anything off this machine."
    )
    private: bool | None = Field(
        default=None,
        description="Never send anything beyond this machine and others of yours.",
    )
    fallback: Fallback | None = Field(
        default=None,
        description="Which other models may answer if the tier's can't: any, local or none.",
    )
    cache: bool | None = Field(
        default=None, description="Reuse an earlier answer to the same request from the log."
    )
    escalate: bool | None = Field(
        default=None,
        description="Check a local answer before showing it; a weak one goes to the next tier up.",
    )
    temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        description="Randomness of the answer; 0 always picks the most likely token.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of tokens of the answer; a cloud model's thoughts come on top.",
    )
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Nucleus sampling: only the most likely tokens whose probabilities add up to "
        "this.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=1 << 64,
        description="Seed for sampling; local models repeat their answer for the same seed.",
    )

    @field_validator("complexity", mode="wrap")
    @classmethod
    def _in_words(cls, value: Any, check: Any) -> Any:
        try:
            return check(value)
        except ValidationError:
            words = f"Must be a whole number from {LOWEST} to {HIGHEST}"
            raise PydanticCustomError("complexity", "{words}", {"words": words}) from None
