"""What goes into the engine and what comes out: plain data, fit for another process."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ...errors import TieredError
    from ..tokens.messages import ChatMessage
    from .kv_disk import KvStore


CutOff: TypeAlias = Literal["length", "stop string", "model"]


@dataclass(frozen=True)
class Limits:
    """How much models may take, in bytes: of memory together, and of disk for what they read.

    None of memory takes what is safe on the device, None of disk keeps nothing there.
    """

    memory: int | None = None
    kv_disk: int | None = None


@dataclass(frozen=True)
class GenerationRequest:
    """What to generate, and with which model.

    `sampling` holds temperature, top_p, min_p, top_k and repetition_penalty, as far as they are
    given; the model's own defaults fill the rest. `budget` is the memory for all models
    together, in bytes. `tools` are function specifications as chat templates take them.
    `thinking` None leaves it to the model's template.
    """

    model: str
    folder: Path
    budget: int
    chat: tuple[ChatMessage, ...]
    max_tokens: int
    sampling: Mapping[str, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    thinking: bool | None = None
    kv_bits: int | None = None
    adapter: Path | None = None
    draft: tuple[str, Path] | None = None
    kv_store: KvStore | None = None

    @property
    def name(self) -> str:
        """What the model is kept under: with another adapter, it is another model."""
        return f"{self.model}+{self.adapter}" if self.adapter else self.model

    @property
    def drafting(self) -> GenerationRequest | None:
        """The same request to the draft model, if there is one."""
        if self.draft is None:
            return None
        model, folder = self.draft
        return replace(self, model=model, folder=folder, adapter=None, draft=None)


@dataclass(frozen=True)
class Prefill:
    """So many of the prompt's tokens have been read."""

    done: int
    total: int


@dataclass(frozen=True)
class Text:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """The next piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True)
class ToolText:
    """A tool call as the model wrote it, between its markers."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model wants called, with arguments that fit the tool's schema."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class BadToolCall:
    """A tool call that can't be read, or does not fit the tool, and why.

    The tokens are those of the answer up to it.
    """

    text: str
    reason: str
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generation_tokens: int = 0


@dataclass(frozen=True)
class Done:
    """The answer is complete.

    Rates are tokens per second, `peak_memory` is bytes; `cached_tokens` of the prompt were not
    read again. `finish_reason` is `stop` (the model or a stop string ended it) or `length`
    (max_tokens or the context did). The log-probabilities are natural logarithms over the
    sampled tokens: their mean, the lowest, and the mean of the lowest tenth. `cut_off_by` says
    what ended a JSON answer before it was whole.
    """

    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    generation_tokens: int
    prompt_tps: float
    generation_tps: float
    peak_memory: int
    mean_logprob: float | None
    lowest_logprob: float | None
    decile_logprob: float | None = None
    schema_level: str | None = None
    cut_off_by: CutOff | None = None


@dataclass(frozen=True)
class Failed:
    """The request ended without an answer."""

    error: TieredError


Event: TypeAlias = "Prefill | Text | Reasoning | ToolCall | BadToolCall | Done | Failed"


class Ticket:
    """A request under way, to cancel it."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop generating at the next token. Safe from any thread, and more than once."""
        self.cancelled.set()
