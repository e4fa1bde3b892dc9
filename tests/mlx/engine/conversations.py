"""Random conversations that continue, branch off, and are cut short or cancelled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st

from tests.mlx.engine.client import Call, make_request

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.mlx.engine.engine import Engine

Turns = tuple[str, ...]

words = st.sampled_from(
    ["Hello", "Hello there, how are you?", "And then?", "Ü 🎵", "a " * 30, "\n"]
)


class Step(NamedTuple):
    """Go back to an earlier turn, cut its last message to `keep` characters, and ask a question.

    With `cancel`, the same request is cancelled once before.
    """

    back: int
    keep: int
    question: str
    cancel: bool


steps = st.builds(Step, st.integers(0, 9), st.integers(0, 12), words, st.booleans())


@dataclass(frozen=True)
class Conversations:
    """Conversations with one model. `fields` are those that all requests share."""

    engine: Engine
    folder: Path
    fields: dict[str, Any] = field(default_factory=dict)

    def compare(self, rounds: list[list[Step]]) -> int:
        """Assert that the prefix cache changes no answer; return the number of cached tokens.

        The steps of a round are taken at the same time.
        """
        known: list[Turns] = [()]
        cached = 0
        for group in rounds:
            prompts: list[Turns] = []
            for step in group:
                turns = known[step.back % len(known)]
                if turns:
                    turns = (*turns[:-1], turns[-1][: step.keep])
                turns = (*turns, step.question)
                prompts.append(turns)
                if step.cancel:
                    cancelled = self._start(turns, max_tokens=20)
                    cancelled.wait_for_text()
                    cancelled.cancel_token.cancel()
            calls = [self._start(turns) for turns in prompts]
            answers = [call.answer() for call in calls]
            # With a seed, mlx-lm processes the whole prompt.
            calls = [self._start(turns, seed=0) for turns in prompts]
            for answer, uncached in zip(answers, [call.answer() for call in calls], strict=True):
                assert uncached.done.cached_tokens == 0
                assert answer.matches(uncached)
                cached += answer.done.cached_tokens
            known += [(*turns, answer.text) for turns, answer in zip(prompts, answers, strict=True)]
        return cached

    def _start(self, turns: Turns, **fields: Any) -> Call:
        request = make_request(self.folder, *turns, **({"max_tokens": 6} | self.fields | fields))
        return Call(request, self.engine).submit()
