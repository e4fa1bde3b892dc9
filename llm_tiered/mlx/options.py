"""What a request can say to a local model."""

from __future__ import annotations

import json

import llm
from pydantic import ConfigDict, Field, field_validator

SAMPLING = ("temperature", "top_p", "min_p", "top_k", "repetition_penalty")


class Options(llm.Options):
    """Without a value, the model's own default holds."""

    # llm registers the models whenever it starts; few of its commands need the options.
    model_config = ConfigDict(defer_build=True)

    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Randomness of the answer; 0 takes the likeliest."
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Largest number of tokens to generate."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Sample from the tokens that make up this share."
    )
    min_p: float | None = Field(
        default=None, ge=0, le=1, description="Drop tokens less likely than this share of the best."
    )
    top_k: int | None = Field(
        default=None, ge=0, description="Sample from so many of the likeliest tokens; 0 for all."
    )
    repetition_penalty: float | None = Field(
        default=None, gt=0, description="Above 1, what was said lately gets less likely."
    )
    seed: int | None = Field(
        default=None, ge=0, lt=1 << 64, description="The same seed and prompt give the same answer."
    )
    stop: str | list[str] | None = Field(
        default=None, description="End the answer before this text, or any of a JSON list of texts."
    )
    thinking: bool | None = Field(
        default=None, description="Whether the model thinks before it answers, if it can."
    )
    kv_bits: int | None = Field(
        default=None, description="Quantise what the model has read to 4 or 8 bits."
    )
    draft_model: str | None = Field(
        default=None,
        description="A smaller local model of the family that guesses ahead, to be faster.",
    )

    @field_validator("stop")
    @classmethod
    def _listed(cls, value: str | list[str] | None) -> list[str] | None:
        """A list, whichever way it was given."""
        if isinstance(value, str) and value.startswith("["):
            try:
                value = json.loads(value)
            except ValueError:
                value = [str(value)]
        stops = [value] if isinstance(value, str) else value
        if stops is not None and not all(isinstance(stop, str) and stop for stop in stops):
            raise ValueError("expected a text or a JSON list of texts, none of them empty")
        return stops

    @field_validator("kv_bits")
    @classmethod
    def _four_or_eight(cls, value: int | None) -> int | None:
        if value not in (None, 4, 8):
            raise ValueError("expected 4 or 8")
        return value
