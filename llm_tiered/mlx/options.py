"""The options of a request to a local model."""

# llm loads this whenever it starts, and evaluating annotations that are strings takes a while:
# no `from __future__ import annotations` here.

import json

import llm
from pydantic import ConfigDict, Field, field_validator

SAMPLING = ("temperature", "top_p", "min_p", "top_k", "repetition_penalty")


class MlxOptions(llm.Options):
    """The options of a local model; None means the model's own default."""

    # llm registers the models every time it starts, but few of its commands need the options.
    model_config = ConfigDict(defer_build=True)

    temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        description="Randomness of the answer; 0 always picks the most likely token.",
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Maximum number of tokens to generate."
    )
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Nucleus sampling: only the most likely tokens whose probabilities add up "
        "to this.",
    )
    min_p: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Only tokens at least this fraction as likely as the most likely one.",
    )
    top_k: int | None = Field(
        default=None, ge=0, description="Only this many of the most likely tokens; 0 means all."
    )
    repetition_penalty: float | None = Field(
        default=None, gt=0, description="Penalty for recently used tokens; 1 means none."
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=1 << 64,
        description="Seed for sampling; the same seed and prompt give the same answer.",
    )
    stop: str | list[str] | None = Field(
        default=None,
        description="Stop before this text, or before any of the texts in a JSON list.",
    )
    thinking: bool | None = Field(
        default=None, description="Whether the model thinks before it answers, if it can."
    )
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=20,
        description="Report how likely each token was, and this many alternatives to it.",
    )
    kv_bits: int | None = Field(default=None, description="Quantise the KV cache to 4 or 8 bits.")
    draft_model: str | None = Field(
        default=None,
        description="Smaller model of the same family, for speculative decoding.",
    )
    prompt_lookup: bool | None = Field(
        default=None,
        description="Guess tokens from the prompt, and check several at once; by default where "
        "that is faster.",
    )

    @field_validator("stop")
    @classmethod
    def _as_list(cls, value: str | list[str] | None) -> list[str] | None:
        """Return the stop strings as a list, whether given as a string, as JSON or as a list."""
        if isinstance(value, str) and value.startswith("["):
            try:
                value = json.loads(value)
            except ValueError:
                value = [str(value)]
        stops = [value] if isinstance(value, str) else value
        if stops is not None and not all(isinstance(stop, str) and stop for stop in stops):
            raise ValueError("expected a string or a JSON list of strings, none of them empty")
        return stops

    @field_validator("kv_bits")
    @classmethod
    def _four_or_eight(cls, value: int | None) -> int | None:
        if value not in (None, 4, 8):
            raise ValueError("expected 4 or 8")
        return value
