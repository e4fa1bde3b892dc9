"""What goes into the engine and what comes out: plain data that could cross to another process."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ...errors import TieredError
    from ..tokens.decoding import Reasoning, Text
    from ..tokens.messages import ChatMessage
    from ..tokens.tools import ToolCall
    from .kv_disk import KvStore


Limit: TypeAlias = Literal["max_tokens", "context"]
CutOff: TypeAlias = Literal["length", "stop string", "model"]

Progress: TypeAlias = "Waiting | Started | Loading | Prefill"
Event: TypeAlias = "Progress | Text | Reasoning | ToolCall | BadToolCall | Done | Failed"


@dataclass(frozen=True)
class Limits:
    """What models may use: memory and disk in bytes, and for how long after an answer.

    `memory` is for all models together; None is what is safe on the device. `kv_disk` is for KV
    caches; None keeps none on disk. `keep_warm` is how many seconds the engine stays after its
    last answer; with 0, models are loaded in the process that asks.
    """

    memory: int | None = None
    kv_disk: int | None = None
    keep_warm: float = 0.0


def memory_name(model: str, adapter: Path | None) -> str:
    """Return the name of a model in memory. With another adapter it is another model."""
    return f"{model}+{adapter}" if adapter else model


@dataclass(frozen=True)
class GenerationRequest:
    """A request to generate an answer with one model.

    `sampling` holds the sampling options that are set: temperature, top_p, min_p, top_k and
    repetition_penalty. The model's own defaults apply to the others. `budget` is the memory for
    all models together, in bytes. `tools` are function specifications in the form that chat
    templates expect. `thinking` None leaves the choice to the chat template. `logprobs` is for how
    many alternatives to each token of the answer log-probabilities are reported; None reports none.
    `prompt_lookup` is whether to guess tokens from the prompt; None guesses where that is faster.
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
    logprobs: int | None = None
    prompt_lookup: bool | None = None

    @property
    def name(self) -> str:
        """The name of the model in memory."""
        return memory_name(self.model, self.adapter)

    @property
    def draft_request(self) -> GenerationRequest | None:
        """The same request to the draft model, or None without one."""
        if self.draft is None:
            return None
        model, folder = self.draft
        return replace(self, model=model, folder=folder, adapter=None, draft=None)


@dataclass(frozen=True)
class Waiting:
    """The request has to wait for memory: `ahead` others are being answered or come first."""

    ahead: int


@dataclass(frozen=True)
class Started:
    """It is the request's turn."""


@dataclass(frozen=True)
class Loading:
    """A model is being loaded, which has this many bytes of weights."""

    model: str
    size: int


@dataclass(frozen=True)
class Prefill:
    """Progress of the prefill: `done` of `total` tokens have been processed."""

    done: int
    total: int


@dataclass(frozen=True)
class BadToolCall:
    """A tool call that can't be parsed or doesn't fit the tool, and the reason.

    `limit` is what cut it off, if it is not whole. The counts are those of the request up to this
    point, in tokens.
    """

    text: str
    reason: str
    limit: Limit | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generation_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Done:
    """The answer is complete.

    `cached_tokens` of the prompt's tokens came from a KV cache. Rates are in tokens per second,
    `peak_memory` is in bytes. `finish_reason` is `stop` (the model ended its turn, or a stop
    string did) or `length` (max_tokens or the context did). Log-probabilities are natural
    logarithms over the tokens that the model had a choice about: their mean, the lowest, and the
    mean of the lowest tenth; None if a schema left no choice about any.
    `limit` is what ended it if the finish reason is `length`; `cut_off_by` is what ended a JSON
    answer before it was complete. `in_thoughts` is whether it ended inside the thoughts,
    `called_in_thoughts` whether a tool call began there. `reasoning_tokens` are those of the
    `generation_tokens` that are thoughts. The answer took this many `passes` of the model;
    `kept_tokens` of `guessed_tokens` were right.
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
    limit: Limit | None = None
    in_thoughts: bool = False
    called_in_thoughts: bool = False
    reasoning_tokens: int = 0
    passes: int = 0
    guessed_tokens: int = 0
    kept_tokens: int = 0


@dataclass(frozen=True)
class Failed:
    """The request ended without a complete answer."""

    error: TieredError


PROGRESS = (Waiting, Started, Loading, Prefill)
"""The events that come before the answer, and can be ignored."""


class CancelToken:
    """Cancels a request that has been submitted."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._on_cancel: Callable[[], object] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the request has been cancelled."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Stop generating at the next token. Safe from any thread, and more than once."""
        self._cancelled.set()
        callback, self._on_cancel = self._on_cancel, None
        if callback:
            callback()

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Call a function, which must not block or raise, as soon as the request is cancelled."""
        self._on_cancel = callback
        if self.cancelled:
            self.cancel()
