"""Models that follow a script, because random ones never think or call tools. A pytest plugin."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.tokens import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Scripts:
    """The answers to the next requests, one script each, in the order in which they are served."""

    def __init__(self, encode: Callable[..., list[int]]) -> None:
        self.prompts: list[str] = []
        """The prompts of the requests, rendered by the chat template."""
        self.prompt_tokens: list[int] = []
        """The numbers of tokens of these prompts."""
        self._encode = encode
        self._waiting: deque[tuple[tuple[str, ...], bool]] = deque()
        self._tokenizer: Any = None

    def say(self, *pieces: str, free: bool = False) -> None:
        """Script the answer to one request: these texts, each encoded separately.

        After them the model ends its turn; with `free` it continues on its own at temperature 1.
        """
        self._waiting.append((pieces, free))

    def encode(self, tokenizer: Any, chat: Any, **options: Any) -> list[int]:
        """Encode a chat as usual, and record its prompt."""
        prompt = self._encode(tokenizer, chat, **options)
        self._tokenizer = tokenizer
        self.prompts.append(tokenizer.decode(prompt))
        self.prompt_tokens.append(len(prompt))
        return prompt

    def sampler(self, _: Mapping[str, float]) -> Callable[[Any], Any]:
        """Return a sampler that follows the next script."""
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
    """The scripts that every request of the test follows."""
    scripts = Scripts(messages.encode)
    monkeypatch.setattr("llm_tiered.mlx.tokens.messages.encode", scripts.encode)
    monkeypatch.setattr("llm_tiered.mlx.tokens.sampling.make_sampler", scripts.sampler)
    return scripts
