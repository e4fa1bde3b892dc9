"""One worker thread that owns MLX: requests in, events out.

MLX ties its streams and its random state to a thread, so everything that loads, generates or
lets go of a model happens on this one. Requests and events are plain data.
"""

from __future__ import annotations

import atexit
import queue
import secrets
import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import EngineError, PromptTooLong, TieredError
from . import device, messages
from .residency import Loaded, Residents, import_mlx_lm
from .stops import StopStrings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from .messages import ChatMessage

# Seconds that a process which ends waits for the worker to put MLX down.
_GOODBYE = 5.0


@dataclass(frozen=True)
class GenerationRequest:
    """What to generate, and with which model.

    `sampling` holds temperature, top_p, min_p and top_k, as far as they are given; the model's
    own defaults fill the rest. `budget` is the memory for all models together, in bytes.
    """

    model: str
    folder: Path
    budget: int
    chat: tuple[ChatMessage, ...]
    max_tokens: int
    sampling: dict[str, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Text:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True)
class Done:
    """The answer is complete.

    Rates are tokens per second, `peak_memory` is bytes. `finish_reason` is `stop` (the model
    or a stop string ended it) or `length` (max_tokens or the context did).
    """

    finish_reason: str
    prompt_tokens: int
    generation_tokens: int
    prompt_tps: float
    generation_tps: float
    peak_memory: int


@dataclass(frozen=True)
class Failed:
    """The request ended without an answer."""

    error: TieredError


Event: TypeAlias = "Text | Done | Failed"


class Ticket:
    """A request under way, to cancel it."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop generating at the next token. Safe from any thread, and more than once."""
        self.cancelled.set()


class Engine:
    """The worker and its queue."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[
            tuple[GenerationRequest, Callable[[Event], None], Ticket] | None
        ] = queue.SimpleQueue()
        self._start = threading.Lock()
        self._worker: threading.Thread | None = None
        self._current: Ticket | None = None
        self._residents = Residents()

    def submit(
        self, request: GenerationRequest, emit: Callable[[Event], None], ticket: Ticket
    ) -> None:
        """Queue a request. `emit` gets its events, on the worker's thread; Done or Failed last.

        After `ticket.cancel()` nothing more is promised to come.
        """
        with self._start:
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="mlx", daemon=True)
                self._worker.start()
                atexit.register(self.close)
        self._jobs.put((request, emit, ticket))

    def resident(self) -> dict[str, Path]:
        """The models in memory and their folders, least recently used first."""
        return self._residents.folders()

    def close(self) -> None:
        """End the worker: what it generates is cancelled, and its models are let go."""
        with self._start:
            worker, self._worker = self._worker, None
        if worker is None:
            return
        if self._current is not None:
            self._current.cancel()
        self._jobs.put(None)
        worker.join(_GOODBYE)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            request, emit, ticket = job
            self._current = ticket
            try:
                self._serve(request, emit, ticket)
            except TieredError as error:
                emit(Failed(error))
            except Exception as error:
                emit(Failed(EngineError(f"{request.model}: {type(error).__name__}: {error}")))
            finally:
                self._current = None
        self._residents.clear()
        device.clear_streams()

    def _serve(
        self, request: GenerationRequest, emit: Callable[[Event], None], ticket: Ticket
    ) -> None:
        if ticket.cancelled.is_set():
            return
        loaded = self._residents.get(request.model, request.folder, request.budget)
        with closing(generate(loaded, request)) as events:
            for event in events:
                emit(event)
                if ticket.cancelled.is_set():
                    break


def generate(loaded: Loaded, request: GenerationRequest) -> Generator[Event, None, None]:
    """The events of a request on a loaded model. Only on the worker's thread.

    Raises PromptTooLong, with the counts, if the prompt fills the model's context.
    """
    import_mlx_lm()
    import mlx.core as mx
    from mlx_lm import stream_generate
    from mlx_lm.sample_utils import make_sampler

    prompt = messages.encode(loaded.tokenizer, request.chat)
    room = _room(loaded, len(prompt))
    # The random state is the thread's: without a seed of its own, each request would continue
    # where the last one stopped, and each process would start the same way.
    mx.random.seed(secrets.randbits(32) if request.seed is None else request.seed)
    sampling = loaded.sampling | request.sampling
    sampler = make_sampler(
        temp=sampling.get("temperature", 0.0),
        top_p=sampling.get("top_p", 0.0),
        min_p=sampling.get("min_p", 0.0),
        top_k=int(sampling.get("top_k", 0)),
    )
    stops = StopStrings(request.stop)
    max_tokens = min(request.max_tokens, room)
    tokens = stream_generate(
        loaded.model, loaded.tokenizer, prompt, max_tokens=max_tokens, sampler=sampler
    )
    with closing(tokens):
        for token in tokens:
            text = stops.push(token.text)
            if token.finish_reason and not stops.stopped:
                text += stops.flush()
            if text:
                yield Text(text)
            if stops.stopped or token.finish_reason:
                yield _done(token, "stop" if stops.stopped else token.finish_reason)
                return


def _room(loaded: Loaded, prompt_tokens: int) -> int:
    """How many tokens fit behind the prompt."""
    context = loaded.files.context_length
    if context is None:
        return 1 << 31
    if prompt_tokens >= context:
        raise PromptTooLong(
            f"the prompt has {prompt_tokens:,} tokens, and the context of {loaded.name} holds "
            f"{context:,}"
        )
    return context - prompt_tokens


def _done(token: Any, finish_reason: str) -> Done:
    return Done(
        finish_reason=finish_reason,
        prompt_tokens=token.prompt_tokens,
        generation_tokens=token.generation_tokens,
        prompt_tps=round(token.prompt_tps, 1),
        generation_tps=round(token.generation_tps, 1),
        peak_memory=int(token.peak_memory * 1e9),
    )


ENGINE = Engine()
