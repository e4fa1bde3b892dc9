"""Conversations with a model that go on, fork, are cut and cancelled, as hypothesis has it."""

from __future__ import annotations

import queue
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import strategies as st

from llm_tiered.mlx.engine.requests import CancelToken, Done, Event, Failed, GenerationRequest
from llm_tiered.mlx.tokens.decoding import Text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llm_tiered.mlx.engine.engine import Engine

PATIENCE = 30  # seconds, for what takes far less


class Answer(NamedTuple):
    """What an answer says, and what is said of it."""

    text: str
    done: Done

    def like(self, other: Answer) -> bool:
        """Whether the tokens of both are the same, and just as likely."""
        ours, theirs = self.done, other.done
        return (
            self.text == other.text
            and ours.generation_tokens == theirs.generation_tokens
            and ours.mean_logprob == pytest.approx(theirs.mean_logprob, abs=1e-3)
            and ours.lowest_logprob == pytest.approx(theirs.lowest_logprob, abs=1e-3)
        )


def wait(events: queue.SimpleQueue[Event]) -> Answer:
    """Wait for an answer."""
    text = ""
    while not isinstance(event := events.get(timeout=PATIENCE), Done):
        assert not isinstance(event, Failed)
        text += event.text if isinstance(event, Text) else ""
    return Answer(text, event)


Turns = tuple[str, ...]

words = st.sampled_from(
    ["Hello", "Hello there, how are you?", "And then?", "Ü 🎵", "a " * 30, "\n"]
)


class Step(NamedTuple):
    """Go back to an earlier turn, cut its last message, and ask something."""

    back: int
    keep: int
    question: str
    cancel: bool


steps = st.builds(Step, st.integers(0, 9), st.integers(0, 12), words, st.booleans())


@dataclass(frozen=True)
class Talk:
    """Asks a model; `said` is what each request says besides."""

    engine: Engine
    name: str
    folder: Path
    budget: int
    said: dict[str, Any] = field(default_factory=dict)

    def start(
        self, turns: Turns, *, seed: int | None = None, cancel: bool = False, max_tokens: int = 6
    ) -> Callable[[], Answer]:
        """Ask; gives what waits for the answer."""
        roles = ("user", "assistant")
        chat = tuple({"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns))
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        cancel_token = CancelToken()
        request = GenerationRequest(
            *(self.name, self.folder, self.budget, chat, max_tokens),
            sampling={"temperature": 0.0},
            seed=seed,
            **self.said,
        )
        self.engine.submit(request, events.put, cancel_token)
        if cancel:
            while not isinstance(events.get(timeout=PATIENCE), Text):
                pass
            cancel_token.cancel()
        return lambda: wait(events)

    def compare(self, rounds: list[list[Step]]) -> int:
        """See that answers are those of a full reading; gives how many tokens were not read."""
        known: list[Turns] = [()]
        cached = 0
        for group in rounds:
            asked: list[Turns] = []
            for step in group:
                turns = known[step.back % len(known)]
                if turns:
                    turns = (*turns[:-1], turns[-1][: step.keep])
                turns = (*turns, step.question)
                asked.append(turns)
                if step.cancel:
                    self.start(turns, cancel=True, max_tokens=20)
            answers = [waiting() for waiting in [self.start(turns) for turns in asked]]
            # With a seed, all of the prompt is read, by mlx-lm's own means.
            expected = [waiting() for waiting in [self.start(turns, seed=0) for turns in asked]]
            for answer, full in zip(answers, expected, strict=True):
                assert full.done.cached_tokens == 0
                assert answer.like(full)
                cached += answer.done.cached_tokens
            known += [(*turns, answer.text) for turns, answer in zip(asked, answers, strict=True)]
        return cached
