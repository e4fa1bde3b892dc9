"""Models that say what a script tells them: random ones never think or call tools."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.tokens import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Scripts:
    """What the models say in the next requests: one script each, in the order they are served."""

    def __init__(self, encode: Callable[..., list[int]]) -> None:
        self.read: list[str] = []
        """What the models were given to read, one text for each request."""
        self.lengths: list[int] = []
        """How many tokens that was."""
        self._encode = encode
        self._waiting: deque[tuple[tuple[str, ...], bool]] = deque()
        self._tokenizer: Any = None

    def say(self, *pieces: str, free: bool = False) -> None:
        """Let a request get these texts for an answer, each of them in tokens of its own.

        After them the model ends its turn; with `free` it goes on by itself, at temperature 1.
        """
        self._waiting.append((pieces, free))

    def encode(self, tokenizer: Any, chat: Any, **options: Any) -> list[int]:
        """Do what the original does, and note which request comes next."""
        prompt = self._encode(tokenizer, chat, **options)
        self._tokenizer = tokenizer
        self.read.append(tokenizer.decode(prompt))
        self.lengths.append(len(prompt))
        return prompt

    def sampler(self, _: Mapping[str, float]) -> Callable[[Any], Any]:
        """The sampler that says the next script."""
        import mlx.core as mx

        pieces, free = self._waiting.popleft()
        tokenizer = self._tokenizer
        tokens = deque(
            token for piece in pieces for token in tokenizer.encode(piece, add_special_tokens=False)
        )
        end = min(tokenizer.eos_token_ids)

        def sample(logprobs: Any) -> Any:
            if free and not tokens:
                return mx.random.categorical(logprobs)
            return mx.array([tokens.popleft() if tokens else end])

        return sample


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Scripts:
    """The scripts that every request follows from now on."""
    scripts = Scripts(messages.encode)
    monkeypatch.setattr("llm_tiered.mlx.tokens.messages.encode", scripts.encode)
    monkeypatch.setattr("llm_tiered.mlx.tokens.sampling.sampler", scripts.sampler)
    return scripts
