"""What a request can say to `tiered`."""

from __future__ import annotations

import llm
from pydantic import ConfigDict, Field

from ..config.terms import HIGHEST, LOWEST, Fallback


class Options(llm.Options):
    """Without a value, the config decides."""

    # llm registers the model whenever it starts; few of its commands need the options.
    model_config = ConfigDict(defer_build=True)

    complexity: int | None = Field(
        default=None, ge=LOWEST, le=HIGHEST, description="How hard the task is, from 1 to 10."
    )
    task: str | None = Field(
        default=None, description="A named kind of work, with a complexity of its own."
    )
    tier: str | None = Field(
        default=None, description="The tier to use, by name; wins over complexity and task."
    )
    local_only: bool | None = Field(
        default=None, description="Nothing leaves this machine, whatever happens."
    )
    fallback: Fallback | None = Field(
        default=None, description="Who may answer if the tier can't: any, local or none."
    )
    cache: bool | None = Field(
        default=None, description="Answer from the log what was answered before."
    )
    escalate: bool | None = Field(
        default=None,
        description="Look at a local answer before showing it; a weak one goes a tier up.",
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Randomness of the answer; 0 takes the likeliest."
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Largest number of tokens to generate."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Sample from the tokens that make up this share."
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=1 << 64,
        description="The same seed gives the same answer, on a local model.",
    )
