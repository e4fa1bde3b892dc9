"""Structured output: a JSON Schema masks the logits, so the answer is valid by construction."""

from __future__ import annotations

import functools
import json
import re
from contextlib import contextmanager
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


@dataclass(frozen=True)
class SchemaState:
    """Where an answer under a schema stands.

    `after` are the tokens that end its reasoning, as long as that may go on, `first` those that
    may begin it now, and `reasoning` the latest in it. `added` tokens were generated so far, of
    which the grammar has `consumed` some, and after `complete_at` of them the JSON was complete.
    """

    after: tuple[int, ...] = ()
    first: tuple[int, ...] = ()
    reasoning: tuple[int, ...] = ()
    added: int = 0
    consumed: int = 0
    complete_at: int | None = None


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
        self.is_narrow = False
        """Whether the last mask left less than half of all tokens."""
        self._state = SchemaState(tuple(after), tuple(first[:1]))
        self._started = False
        self._words: Any = None
        # The positions in the answer where the mask left no choice.
        self._certain: set[int] = set()

    @property
    def state(self) -> SchemaState:
        """Where the answer stands; `restore` goes back there."""
        return self._state

    def is_complete(self, generated: int) -> bool:
        """Return whether the JSON is complete after this number of generated tokens.

        Only the end of the turn may follow then.
        """
        complete_at = self._state.complete_at
        return complete_at is not None and complete_at <= generated

    @property
    def leaves_no_choice(self) -> bool:
        """Whether nothing else is possible next."""
        return self._state.added in self._certain

    def left_no_choice(self, position: int) -> bool:
        """Return whether nothing else was possible at this position of the answer."""
        return position in self._certain

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """Return the logits with every token that is not allowed next at minus infinity."""
        import mlx.core as mx

        last = tokens[-1]
        # The mask depends on the last token. Queued first, it is computed first, and the model
        # computes the logits while this thread waits for it.
        for array in (last, logits):
            mx.async_eval(array)  # type: ignore[no-untyped-call]  # its stub has no types
        if self._started:
            self.accept([int(last.item())])
        self._started = True
        return self.mask(logits)

    def mask(self, logits: Any) -> Any:
        """Return the logits of the next token, masked; after a failure, as they are."""
        if self.error is None:
            with self._kept():
                return self._masked(logits)
        return logits

    def add(self, token: int) -> None:
        """Take note of the answer's next token. Raises RequestError if it can't be the next one."""
        state, matcher = self._state, self.grammar.matcher
        after = () if state.first and token not in state.first else state.after
        reasoning, consumed, complete_at = state.reasoning, state.consumed, state.complete_at
        if after:
            # Still reasoning: the tokens that end it are not part of the JSON.
            reasoning = (*reasoning, token)[-len(after) :]
            after = () if reasoning == after else after
        elif not matcher.is_stopped():
            if not matcher.consume_token(token):
                raise _dead_end(matcher)
            consumed += 1
        added = state.added + 1
        if complete_at is None and matcher.is_stopped() and not matcher.is_error():
            complete_at = added
        self._state = SchemaState(after, (), reasoning, added, consumed, complete_at)

    def accept(self, tokens: Sequence[int]) -> None:
        """Take note of the next tokens; a failure is kept."""
        with self._kept():
            for token in tokens if self.error is None else ():
                self.add(token)

    def restore(self, state: SchemaState) -> None:
        """Go back to where the answer stood some tokens ago."""
        surplus = self._state.consumed - state.consumed
        if surplus:
            self.grammar.matcher.rollback(surplus)
        self._state = state

    def forced(self) -> list[int]:
        """Return the tokens that must come next because no others are allowed."""
        if self._state.after or self.error is not None or self.grammar.matcher.is_stopped():
            return []
        forced: list[int] = self.grammar.matcher.compute_ff_tokens()
        return forced

    def possible(self, guesses: list[int]) -> list[int]:
        """Return the guesses of the next tokens up to the first one that can't be true."""
        if self._state.first or self.error is not None:
            return []
        if self._state.after:
            # What follows the end of the reasoning is another matter.
            end = self._state.after[-1]
            return guesses[: guesses.index(end)] if end in guesses else guesses
        if self.grammar.matcher.is_stopped():
            return []
        return guesses[: self.grammar.matcher.validate_tokens(guesses)]

    def _masked(self, logits: Any) -> Any:
        """Return the logits of what the grammar allows next."""
        import llguidance.numpy
        import mlx.core as mx
        import numpy as np

        state, width = self._state, logits.shape[-1]
        self._certain.discard(state.added)
        self.is_narrow = False
        if state.after and not state.first:
            return logits
        if self._words is None:
            self._words = llguidance.numpy.allocate_token_bitmask(1, width)
        llguidance.numpy.fill_next_token_bitmask(self.grammar.matcher, self._words)
        # Twice as fast as shifts in MLX, which can't unpack bits in one operation.
        bits = np.unpackbits(self._words[0].view(np.uint8), count=width, bitorder="little")
        allowed = bits.view(np.bool_)
        count = int(np.count_nonzero(allowed))
        # Of logits that are all minus infinity, a sampler would make any token.
        if not count or self.grammar.matcher.is_error():
            raise _dead_end(self.grammar.matcher)
        self.is_narrow = 2 * count < width
        # After the JSON only the end of the turn is left, for which models may have several tokens.
        is_certain = count == 1 or self.grammar.matcher.is_stopped()
        if is_certain and not state.first:
            self._certain.add(state.added)
        bits[list(state.first)] = 1
        return mx.where(mx.array(allowed), logits, mx.array(-float("inf"), logits.dtype))

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep a failure inside the `with` statement in `error`."""
        try:
            yield
        except TieredError as error:
            self.error = error
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self.error = EngineError(f"masking tokens for the schema: {reason}")


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
