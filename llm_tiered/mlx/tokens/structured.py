"""Structured output: a JSON Schema masks the logits, so the answer is valid by construction."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ... import json_schema
from ...errors import EngineError, RequestError, TieredError
from ...schema_drafts import inner, modern
from . import mask_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# The strictest first, each with options of llguidance. `coerce` treats oneOf as anyOf, `lenient`
# ignores keywords that a grammar can't express; so is a mask called that leaves some out itself.
LEVELS: dict[str, dict[str, Any]] = {
    "strict": {},
    "coerce": {"coerce_one_of": True},
    "lenient": {"coerce_one_of": True, "lenient": True},
}
# JSON without optional white space, which would cost tokens.
COMPACT = {"whitespace_flexible": False}
# The states that a grammar may be in at once: an optional property makes four of them, and
# llguidance's own limit is 2,000.
MOST_ITEMS = 50_000


@dataclass
class Grammar:
    """A compiled schema with the state of one answer, and the level at which it compiled."""

    level: str
    matcher: Any


def compile_schema(schema: Mapping[str, Any], tokenizer: Any) -> Grammar:
    """Compile a schema at the strictest level that supports it.

    `tokenizer` is llguidance's. Raises RequestError if no level does, with the reason.
    """
    try:
        json_schema.check(schema)
    except ValueError as problem:
        raise RequestError(f"the schema is {problem}") from None
    text = json.dumps(schema)
    try:
        return _compile(_mask(text), tokenizer)
    except ValueError as problem:
        # Without the place in the mask's own schema.
        lines = re.sub(r"\s+while processing \S+", "", str(problem))
        reason = " ".join(lines.split())[:200]
    weaker = {"prunes": True} if "nsatisfiable" in reason else {"merges": False}
    try:
        return _compile(_mask(text, **weaker), tokenizer)
    except ValueError:
        raise RequestError(f"this schema can't be used to guide a local model: {reason}") from None


def _compile(mask: mask_schema.Mask, tokenizer: Any) -> Grammar:
    """Compile a mask's schema at the strictest level. Raises ValueError."""
    from llguidance import LLMatcher, LLParserLimits

    error = ""
    for level, overrides in LEVELS.items():
        options: Any = COMPACT | overrides
        grammar = LLMatcher.grammar_from_json_schema(mask.schema, overrides=options)
        limits = LLParserLimits(max_items_in_row=MOST_ITEMS)
        # Not logged: what goes wrong is raised.
        matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=limits)
        if not matcher.is_error():
            return Grammar(level if mask.is_exact else "lenient", matcher)
        error = matcher.get_error()
    raise ValueError(error)


@functools.lru_cache(maxsize=64)
def _mask(text: str, **options: bool) -> mask_schema.Mask:
    """Return what a mask can hold of a schema, written as JSON. Raises ValueError."""
    schema = modern(json.loads(text))
    number = _rounded_integer(schema)
    if number is not None:
        raise ValueError(f"the mask would round {number}")
    return mask_schema.build(schema, **options)


def _rounded_integer(schema: Mapping[str, Any]) -> int | None:
    """Return an integer in an enum or a const that llguidance would round, or None.

    llguidance reads numbers as 64-bit floats, so its mask would force another number than the
    schema's (findings/llguidance-large-integers.sh).
    """
    schemas = [each for each in inner(schema) if isinstance(each, dict)]
    fixed = [each[word] for each in schemas for word in ("enum", "const") if word in each]
    return next((number for number in _integers(fixed) if not _is_exact(number)), None)


def _integers(value: Any) -> Iterator[int]:
    """Yield every integer in a JSON value, those that are written as floats too."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, float) and value.is_integer():
        yield int(Decimal(repr(value)))
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _integers(part)


def _is_exact(number: int) -> bool:
    """Whether a 64-bit float can represent the integer."""
    try:
        return int(float(number)) == number
    except OverflowError:
        return False


class Constraint:
    """A logits processor that masks every token the grammar does not allow next.

    `after` are the tokens that end the reasoning; nothing is masked before them. If the model may
    skip the reasoning, `first` are those that begin it. A failure is kept in `error`, because an
    exception in a logits processor would end the whole batch: a RequestError if it is the
    schema's, else an EngineError.
    """

    def __init__(
        self, grammar: Grammar, after: Sequence[int] = (), first: Sequence[int] = ()
    ) -> None:
        self.grammar = grammar
        self.error: TieredError | None = None
        self._after = list(after)
        self._first = list(first[:1])
        self._reasoning: list[int] = []
        self._started = False
        self._mask: Any = None
        # The numbers of tokens taken note of, and of those that complete the JSON.
        self._added = 0
        self._complete_at: int | None = None

    def is_complete(self, generated: int) -> bool:
        """Return whether the JSON is complete after this number of generated tokens.

        Only the end of the turn may follow then.
        """
        return self._complete_at is not None and self._complete_at <= generated

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """Return the logits with every token that is not allowed next at minus infinity."""
        if self.error is None:
            try:
                return self._constrain(tokens, logits)
            except TieredError as error:
                self.error = error
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                self.error = EngineError(f"masking tokens for the schema: {reason}")
        return logits

    def _constrain(self, tokens: Any, logits: Any) -> Any:
        import mlx.core as mx

        last = tokens[-1]
        # The mask depends on the last token. Queued first, it is computed first, and the model
        # computes the logits while this thread waits for it.
        for array in (last, logits):
            mx.async_eval(array)  # type: ignore[no-untyped-call]  # its stub has no types
        if self._started:
            self.add(int(last.item()))
        self._started = True
        if self._after and not self._first:
            return logits
        return self._masked(logits, also=self._first)

    def add(self, token: int) -> None:
        """Take note of the answer's next token. Raises RequestError if it can't be the next one."""
        if self._first and token not in self._first:
            self._after = []
        self._first = []
        matcher = self.grammar.matcher
        if self._after:
            # Still reasoning: the tokens that end it are not part of the JSON.
            self._reasoning = [*self._reasoning, token][-len(self._after) :]
            self._after = [] if self._reasoning == self._after else self._after
        elif not matcher.is_stopped() and not matcher.consume_token(token):
            raise _dead_end(matcher)
        self._added += 1
        if self._complete_at is None and matcher.is_stopped() and not matcher.is_error():
            self._complete_at = self._added

    def take_forced(self) -> list[int]:
        """Return the tokens that must come next because no others are allowed.

        The constraint counts on them from now on: it must be called with all of them next.
        """
        if self._after or self.error is not None or self.grammar.matcher.is_stopped():
            return []
        forced: list[int] = self.grammar.matcher.compute_ff_tokens()
        for token in forced[:-1]:
            self.add(token)
        return forced

    def _masked(self, logits: Any, also: list[int]) -> Any:
        """Return the logits of what the grammar allows next and of the tokens in `also`."""
        import llguidance.numpy
        import mlx.core as mx
        import numpy as np

        width = logits.shape[-1]
        if self._mask is None:
            self._mask = llguidance.numpy.allocate_token_bitmask(1, width)
        llguidance.numpy.fill_next_token_bitmask(self.grammar.matcher, self._mask)
        # Twice as fast as shifts in MLX, which can't unpack bits in one operation.
        bits = np.unpackbits(self._mask[0].view(np.uint8), count=width, bitorder="little")
        # Of logits that are all minus infinity, a sampler would make any token.
        if not bits.any() or self.grammar.matcher.is_error():
            raise _dead_end(self.grammar.matcher)
        bits[also] = 1
        allowed = mx.array(bits.view(np.bool_))
        return mx.where(allowed, logits, mx.array(-float("inf"), logits.dtype))


def make_constraint(
    grammar: Grammar,
    generated: Sequence[int],
    think_end: Sequence[int] = (),
    think_start: Sequence[int] = (),
) -> Constraint:
    """Return the constraint for an answer of which these tokens have been generated already.

    `think_end` are the tokens that end the reasoning, if the answer may begin with it; if it may
    also do without, `think_start` are those that begin it.
    """
    constraint = Constraint(grammar, think_end, think_start)
    for token in generated:
        constraint.add(token)
    return constraint


def _dead_end(matcher: Any) -> RequestError:
    """Return the error of a grammar that allows no token, or has become too complex."""
    # Without the parser state that llguidance appends.
    reason = matcher.get_error().partition("\n")[0] or "no token of this model continues the JSON"
    return RequestError(f"the schema can't guide this model to its end: {reason}")
