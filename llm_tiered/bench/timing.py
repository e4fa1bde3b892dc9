"""One prompt and the time of its answer, as a user of llm experiences it."""

from __future__ import annotations

import queue
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from typing import TYPE_CHECKING, Any

import llm

from ..errors import EmptyAnswer
from ..mlx.engine.engine import ENGINE
from ..mlx.engine.requests import CancelToken, Done, Event, Failed
from ..mlx.prompt import make_request
from ..mlx.tokens.decoding import Reasoning, Text

if TYPE_CHECKING:
    from ..mlx.models import MlxModel

STORY = """\
Once upon a time there was a fox who lived at the edge of a large forest, close to a river. Every
morning it went down to the water, looked at the other side and asked itself what might be there.
One day a bird sat down next to it and said that it had been across many times, that the grass was
just as green there, and that another fox sat on the other side each morning, and asked itself the
same. Tell the whole story of the two foxes from here on, with everything that each of them says.
"""

LONGEST_PAUSE = 1.0  # seconds


@dataclass(frozen=True)
class TimedAnswer:
    """The times of an answer in seconds, its tokens, and its memory in bytes.

    `ttft` is the time to first token, as text or reasoning, and `total` the time to the end.
    `cpu` is the CPU time of this process on all cores, which other processes do not change.
    `passes` is how often the model was run for the output tokens.
    """

    ttft: float
    total: float
    cpu: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    peak_memory: int = 0
    passes: int = 0

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens per second up to the first token."""
        return self.prompt_tokens / self.ttft

    @property
    def decode_rate(self) -> float:
        """Output tokens per second after the first one."""
        return max(self.output_tokens - 1, 1) / max(self.total - self.ttft, 1e-9)

    def after(self, seconds: float) -> TimedAnswer:
        """Return the same answer, delayed by this many seconds."""
        return replace(self, ttft=self.ttft + seconds, total=self.total + seconds)

    def settle(self) -> TimedAnswer:
        """Wait for the token that MLX computes after the last one: it would slow the next answer.

        Returns the same answer.
        """
        pause(1 / self.decode_rate if self.output_tokens > 1 else self.ttft)
        return self


class Stopwatch:
    """Measures wall time and CPU time since its creation."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = time.process_time()

    @property
    def wall(self) -> float:
        """The seconds so far."""
        return time.perf_counter() - self._wall

    def answer(self, ttft: float | None, **counts: int) -> TimedAnswer:
        """Return an answer that ends now; without `ttft`, its first token is its end."""
        total = self.wall
        cpu = time.process_time() - self._cpu
        return TimedAnswer(ttft or total, total, cpu, **counts)


def pause(seconds: float) -> None:
    """Wait for about the time of one token."""
    time.sleep(min(seconds, LONGEST_PAUSE))


class Prompts:
    """Prompts of any length for one tokenizer, and system prompts without a common prefix."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokens_per_word = len(tokenizer.encode(STORY)) / len(STORY.split())
        self._numbers = count()

    def new_system(self) -> str:
        """Return a new system prompt, so that no KV cache holds it or anything after it.

        All have the same length: a GPU may compile kernels again for another length.
        """
        return f"{next(self._numbers):06} is your number. You tell stories."

    def story(self, tokens: int) -> str:
        """Return a user prompt of about this many tokens."""
        words = max(round(tokens / self._tokens_per_word), 1)
        return " ".join(islice(cycle(STORY.split()), words))


def ask(source: Any, prompt: str | None, *, max_tokens: int, **arguments: Any) -> TimedAnswer:
    """Ask one of llm's local models or conversations. Raises TieredError.

    The model does not think first, if it can leave that. So few tokens need not make an answer.
    """
    stopwatch = Stopwatch()
    arguments |= {"temperature": 0, "max_tokens": max_tokens, "thinking": False}
    response = source.prompt(prompt, **arguments)
    ttft = None
    with suppress(EmptyAnswer):
        for event in response.stream_events():
            if ttft is None and event.chunk:
                ttft = stopwatch.wall
    facts = response.response_json or {}
    return stopwatch.answer(
        ttft,
        prompt_tokens=response.input_tokens or 0,
        output_tokens=response.output_tokens or 0,
        cached_tokens=(response.token_details or {}).get("cached_tokens", 0),
        peak_memory=facts.get("peak_memory", 0),
    ).settle()


def submit(
    model: MlxModel,
    prompt: str,
    *,
    max_tokens: int,
    system: str | None = None,
    **changes: Any,
) -> TimedAnswer:
    """Ask the engine directly, with changes to the request that llm does not allow.

    These are a schema with truncated JSON, and a memory budget in bytes. Raises TieredError.
    """
    options = model.Options(temperature=0, max_tokens=max_tokens)
    stopwatch = Stopwatch()
    request = make_request(model, llm.Prompt(prompt, model=model, system=system, options=options))
    request = replace(request, **changes)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    cancel_token = CancelToken()
    ENGINE.submit(request, events.put, cancel_token)
    ttft = None
    try:
        while not isinstance(event := events.get(), (Done, Failed)):
            if ttft is None and isinstance(event, (Text, Reasoning)):
                ttft = stopwatch.wall
    finally:
        cancel_token.cancel()
    if isinstance(event, Failed):
        raise event.error
    return stopwatch.answer(
        ttft,
        prompt_tokens=event.prompt_tokens,
        output_tokens=event.generation_tokens,
        cached_tokens=event.cached_tokens,
        peak_memory=event.peak_memory,
        passes=event.passes,
    ).settle()
