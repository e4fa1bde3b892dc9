"""One prompt and how long its answer took, as whoever asks llm sees it."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from typing import TYPE_CHECKING, Any

import llm

from ..mlx.engine.engine import ENGINE
from ..mlx.engine.requests import Done, Event, Failed, Reasoning, Text, Ticket
from ..mlx.prompt import make_request

if TYPE_CHECKING:
    from ..mlx.models import MlxModel

STORY = """\
Once upon a time there was a fox who lived at the edge of a large forest, close to a river. Every
morning it went down to the water, looked at the other side and asked itself what might be there.
One day a bird sat down next to it and said that it had been across many times, that the grass was
just as green there, and that another fox sat on the other side each morning, and asked itself the
same. Tell the whole story of the two foxes from here on, with everything that each of them says.
"""

MOST_REST = 1.0  # seconds


@dataclass(frozen=True)
class Answer:
    """An answer: seconds to its first piece and to its end, and its tokens.

    `processor` is seconds too, of this process on all cores: others that run don't change it.
    """

    first: float
    total: float
    processor: float
    prompt_tokens: int
    tokens: int
    cached_tokens: int = 0
    peak_memory: int = 0

    @property
    def prompt_rate(self) -> float:
        """Tokens of the prompt per second, up to the first piece of the answer."""
        return self.prompt_tokens / self.first

    @property
    def rate(self) -> float:
        """Tokens per second after the first one."""
        return max(self.tokens - 1, 1) / max(self.total - self.first, 1e-9)

    def later(self, seconds: float) -> Answer:
        """The same answer to somebody who asked so many seconds earlier."""
        return replace(self, first=self.first + seconds, total=self.total + seconds)

    def rest(self) -> Answer:
        """Wait for the token that MLX computes beyond the last: it would slow the next answer."""
        rest(1 / self.rate if self.tokens > 1 else self.first)
        return self


class Clock:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._processor = time.process_time()

    @property
    def wall(self) -> float:
        """Seconds up to now."""
        return time.perf_counter() - self._wall

    def answer(self, first: float | None, **counted: int) -> Answer:
        """An answer that ends now; without a first piece, it all came at once."""
        total = self.wall
        processor = time.process_time() - self._processor
        return Answer(first or total, total, processor, **counted)


def rest(seconds: float) -> None:
    """Wait for about as long as a token takes."""
    time.sleep(min(seconds, MOST_REST))


class Texts:
    """Prompts of a wanted length for one tokenizer, no two of which begin alike."""

    def __init__(self, tokenizer: Any) -> None:
        self._per_word = len(tokenizer.encode(STORY)) / len(STORY.split())
        self._numbers = count()

    def system(self) -> str:
        """A system prompt that has not been read before: it makes everything behind it new.

        All are of the same length: a GPU may compile kernels anew for another one.
        """
        return f"{next(self._numbers):06} is your number. You tell stories."

    def story(self, tokens: int) -> str:
        """A user's prompt of about so many tokens."""
        words = max(round(tokens / self._per_word), 1)
        return " ".join(islice(cycle(STORY.split()), words))


def ask(source: Any, prompt: str | None, *, max_tokens: int, **said: Any) -> Answer:
    """Ask a model or a conversation of llm. Raises TieredError."""
    clock = Clock()
    response = source.prompt(prompt, temperature=0, max_tokens=max_tokens, **said)
    first = None
    for event in response.stream_events():
        if first is None and event.chunk:
            first = clock.wall
    facts = response.response_json or {}
    return clock.answer(
        first,
        prompt_tokens=response.input_tokens or 0,
        tokens=response.output_tokens or 0,
        cached_tokens=(response.token_details or {}).get("cached_tokens", 0),
        peak_memory=facts.get("peak_memory", 0),
    ).rest()


def submit(
    model: MlxModel,
    prompt: str,
    *,
    max_tokens: int,
    system: str | None = None,
    **changes: Any,
) -> Answer:
    """Ask the engine itself, with changes to the request that llm does not allow.

    Those are a schema whose JSON is cut off, and a memory budget. Raises TieredError.
    """
    options = model.Options(temperature=0, max_tokens=max_tokens)
    clock = Clock()
    request = make_request(model, llm.Prompt(prompt, model=model, system=system, options=options))
    request = replace(request, **changes)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    ticket = Ticket()
    ENGINE.submit(request, events.put, ticket)
    first = None
    try:
        while not isinstance(event := events.get(), (Done, Failed)):
            if first is None and isinstance(event, (Text, Reasoning)):
                first = clock.wall
    finally:
        ticket.cancel()
    if isinstance(event, Failed):
        raise event.error
    return clock.answer(
        first,
        prompt_tokens=event.prompt_tokens,
        tokens=event.generation_tokens,
        cached_tokens=event.cached_tokens,
        peak_memory=event.peak_memory,
    ).rest()
