"""The options of a request to a server."""

from __future__ import annotations

import json
from typing import Any

import llm
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

# As much as OpenAI's API allows.
MOST_ALTERNATIVES = 20

# A week, in seconds.
LONGEST_SILENCE = 7 * 24 * 3600.0


class ServerOptions(llm.Options):
    """The options of a server's model; None leaves it to the server.

    Others, such as `min_p` for vLLM, are sent as they are: they can stand in the config.
    """

    model_config = ConfigDict(extra="allow")

    temperature: float | None = Field(default=None, ge=0, description="Randomness of the answer.")
    max_tokens: int | None = Field(
        default=None, ge=1, description="Maximum number of tokens to generate."
    )
    top_p: float | None = Field(default=None, gt=0, le=1, description="Nucleus sampling.")
    seed: int | None = Field(default=None, description="Seed for sampling.")
    stop: str | list[str] | None = Field(
        default=None,
        description="Stop before this text, or before any of the texts in a JSON list.",
    )
    thinking: bool | None = Field(
        default=None, description="Whether the model thinks before it answers, if it can."
    )
    reasoning_effort: str | None = Field(
        default=None, description="How much the model thinks, such as low, medium or high."
    )
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=MOST_ALTERNATIVES,
        description="Report how likely each token was, and this many alternatives to it.",
    )
    timeout: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_SILENCE,
        description="Seconds without a sign of the server after which it is given up.",
    )
    judged: SkipJsonSchema[bool | None] = Field(
        default=None, description="Set by tiered: the answer may be too weak to be shown."
    )

    @field_validator("stop")
    @classmethod
    def _as_list(cls, value: str | list[str] | None) -> Any:
        """Return the texts of a JSON list, as the command line has it."""
        if isinstance(value, str) and value.startswith("["):
            try:
                return json.loads(value)
            except ValueError:
                return value
        return value

    @model_validator(mode="after")
    def _is_one_answer(self) -> ServerOptions:
        """Refuse to have several answers written, whose pieces would come mixed."""
        number = (self.model_extra or {}).get("n")
        if number not in (None, 1):
            raise _mistake("n", "1: there is one answer to a prompt", number)
        return self

    @model_validator(mode="after")
    def _is_json(self) -> ServerOptions:
        """Refuse what YAML knows, such as dates, but no server can be sent."""
        for name, value in (self.model_extra or {}).items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):
                raise _mistake(name, "a value of JSON", value) from None
        arguments = (self.model_extra or {}).get("chat_template_kwargs")
        if not isinstance(arguments, (dict, type(None))):
            raise _mistake("chat_template_kwargs", "names and values", arguments)
        return self


def _mistake(name: str, expected: str, value: Any) -> ValidationError:
    """The error for an option, under its name as that of a known option is."""
    error = PydanticCustomError("option", "expected {expected}", {"expected": expected})
    return ValidationError.from_exception_data(
        "ServerOptions", [{"type": error, "loc": (name,), "input": value}]
    )
