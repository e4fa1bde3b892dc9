"""JSON Schema → a mask over the next token, so that the answer is valid by construction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

# From the strictest on: what each one lets llguidance give up. `coerce` reads oneOf as anyOf,
# `lenient` ignores keywords that a grammar can't express.
LEVELS: dict[str, dict[str, Any]] = {
    "strict": {},
    "coerce": {"coerce_one_of": True},
    "lenient": {"coerce_one_of": True, "lenient": True},
}
COMPACT = {"whitespace_flexible": False}


@dataclass
class Grammar:
    """A compiled schema, and the level at which it compiled."""

    level: str
    matcher: Any


def make_tokenizer(tokenizer: Any, width: int) -> Any:
    """Llguidance's view of a model's tokenizer, for logits of that width. About half a second."""
    import llguidance.hf

    return llguidance.hf.from_tokenizer(
        tokenizer._tokenizer, n_vocab=width, eos_token=sorted(tokenizer.eos_token_ids)
    )


def compile_schema(schema: Mapping[str, Any], tokenizer: Any) -> Grammar:
    """Compile a schema at the strictest level that takes it.

    `tokenizer` comes from `make_tokenizer`. Raises RequestError naming what no level takes.
    """
    from llguidance import LLMatcher

    error = ""
    for level, overrides in LEVELS.items():
        text = json.dumps(schema)
        try:
            options: Any = COMPACT | overrides
            grammar = LLMatcher.grammar_from_json_schema(text, overrides=options)
        except ValueError as wrong:
            error = str(wrong)
            continue
        matcher = LLMatcher(tokenizer, grammar)
        if not matcher.is_error():
            return Grammar(level, matcher)
        error = matcher.get_error()
    reason = " ".join(error.split())[:200]
    raise RequestError(f"this schema can't be used to guide a local model: {reason}")


class Constraint:
    """A logits processor that allows only what the grammar does.

    `after` is the token that ends the thinking, before which nothing is constrained. What goes
    wrong is kept in `error`: an exception here would take the whole batch down.
    """

    def __init__(self, grammar: Grammar, after: int | None = None) -> None:
        self.grammar = grammar
        self.error: str | None = None
        self._after = after
        self._started = False
        self._mask: Any = None

    @property
    def complete(self) -> bool:
        """Whether the document is whole: nothing but the end of the turn may follow."""
        matcher = self.grammar.matcher
        return self._after is None and matcher.is_stopped() and not matcher.is_error()

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """The logits, with all tokens that may not come next at minus infinity."""
        if self.error is None:
            try:
                return self._constrain(tokens, logits)
            except Exception as error:
                self.error = f"{type(error).__name__}: {error}"
        return logits

    def _constrain(self, tokens: Any, logits: Any) -> Any:
        import mlx.core as mx

        last = tokens[-1]
        # The model goes on while its last token, which the mask depends on, is waited for: what
        # is sent to the device first is there first.
        for wanted in (last, logits):
            mx.async_eval(wanted)  # type: ignore[no-untyped-call]  # its stub has no types
        matcher = self.grammar.matcher
        if self._started:
            token = int(last.item())
            if self._after is not None:
                # Still thinking: the token that ends it is not part of the JSON.
                self._after = None if token == self._after else self._after
            elif not matcher.is_stopped() and not matcher.consume_token(token):
                self.error = _first_line(matcher.get_error())
        self._started = True
        if self._after is not None:
            return logits
        return self._masked(logits)

    def _masked(self, logits: Any) -> Any:
        import llguidance.numpy
        import mlx.core as mx
        import numpy as np

        width = logits.shape[-1]
        if self._mask is None:
            self._mask = llguidance.numpy.allocate_token_bitmask(1, width)
        llguidance.numpy.fill_next_token_bitmask(self.grammar.matcher, self._mask)
        # Twice as fast as to shift the bits apart in MLX, which has no operation for it.
        bits = np.unpackbits(self._mask[0].view(np.uint8), count=width, bitorder="little")
        allowed = mx.array(bits.view(np.bool_))
        return mx.where(allowed, logits, mx.array(-float("inf"), logits.dtype))


def _first_line(error: str) -> str:
    """What went wrong, without the state of the parser that llguidance adds."""
    return error.partition("\n")[0] or "the grammar does not take its own token"
