"""Models that follow a script, because random ones never think or call tools. A pytest plugin."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.tokens import messages
from llm_tiered.mlx.tokens.sampling import SeededSampler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class _Script(SeededSampler):
    """What one answer is still to say: pieces of text, each as its tokens."""

    def __init__(self, tokenizer: Any, pieces: Sequence[str], *, free: bool) -> None:
        self._tokenizer = tokenizer
        self._free = free
        self._left = [self._encoded(piece) for piece in pieces]
        self._drawn: list[int] = []

    def __call__(self, logprobs: Any) -> Any:
        """Return the next token."""
        import mlx.core as mx

        self._drawn = self._pop()
        while self._drawn and self._is_masked_space(logprobs):
            self._drawn = self._pop()
        if self._free and not self._drawn:
            return mx.random.categorical(logprobs)
        return mx.array(self._drawn or [min(self._tokenizer.eos_token_ids)])

    def skip(self, tokens: Sequence[int]) -> None:
        """Go on after tokens that a schema has forced; they may cut the text differently."""
        pieces = [self._tokenizer.decode(piece) for piece in self._left]
        text = self._tokenizer.decode(tokens)
        if not "".join(pieces).startswith(text):
            # The script does not keep to the schema.
            for _ in tokens:
                self._pop()
            return
        self._left = []
        for piece in pieces:
            self._left.append(self._encoded(piece[len(text) :]))
            text = text[len(piece) :]

    def _is_masked_space(self, logprobs: Any) -> bool:
        """Whether the token is white space where a schema allows none, as after thoughts."""
        likelihood = logprobs.reshape(-1)[self._drawn[0]].item()
        is_masked: bool = likelihood == -math.inf
        return is_masked and str(self._tokenizer.decode(self._drawn)).isspace()

    def _pop(self) -> list[int]:
        """Return the next token, or nothing at the end."""
        while self._left and not self._left[0]:
            self._left.pop(0)
        return [self._left[0].pop(0)] if self._left else []

    def _encoded(self, piece: str) -> list[int]:
        return list(self._tokenizer.encode(piece, add_special_tokens=False))


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
        pieces, free = self._waiting.popleft()
        return _Script(self._tokenizer, pieces, free=free)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Scripts:
    """The scripts that every request of the test follows."""
    scripts = Scripts(messages.encode)
    monkeypatch.setattr("llm_tiered.mlx.tokens.messages.encode", scripts.encode)
    monkeypatch.setattr("llm_tiered.mlx.tokens.sampling.make_sampler", scripts.sampler)
    return scripts
