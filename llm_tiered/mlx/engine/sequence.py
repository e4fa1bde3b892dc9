"""One request while its answer is generated: tokens in, events out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...errors import PromptTooLong, RequestError
from ..tokens import checkpoints, messages, sampling
from ..tokens.call_formats import call_format
from ..tokens.decoding import Decoder, Text, ToolText
from ..tokens.logprobs import TokenLogprob
from ..tokens.structured import compile_schema, make_constraint
from ..tokens.thinking import thinking_after
from ..tokens.tools import UnreadableCall, parse_calls
from .kv import PLAIN
from .requests import BadToolCall, Prefill
from .sequence_cache import SequenceCache
from .statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tokens.decoding import Piece
    from ..tokens.logprobs import StepLogprobs
    from ..tokens.structured import Constraint
    from ..tokens.thinking import Thinking
    from .job import Job
    from .loading import LoadedModel
    from .requests import CutOff, Done, Event, GenerationRequest, Limit


class RunningSequence:
    """A request on a loaded model: its prompt, the tokens generated so far, and how to sample.

    A runner, Batch or Solo, generates its tokens; it may pass from one runner to another. Used
    only on the worker's thread. Raises TieredError if the request can't be served.
    """

    def __init__(self, job: Job, model: LoadedModel) -> None:
        request = self.request = job.request
        self.model = model
        self._job = job
        self._has_ended = False
        _check_tools(request, model)
        self.prompt = _encode(request, model)
        self.max_tokens = min(request.max_tokens, _tokens_left(request, model, len(self.prompt)))
        options = _sampling_options(request, model)
        self.sampler = _make_sampler(request, options)
        self._penalties = sampling.make_penalties(options)
        # A KV cache that can't be trimmed is not kept with a draft model's. Without a draft model,
        # the answer is the same.
        self.draft_request = request.draft_request if model.trims_caches else None
        self.constraint: Constraint | None = None
        self.cache = SequenceCache(request, model)
        self.checkpoints = self._find_checkpoints()
        self._cached_tokens: int | None = None
        self._thinking = _thinking_in_answer(request, model, self.prompt)
        self._decoder = Decoder(
            model.tokenizer,
            request.stop,
            thinking=self._thinking,
            once=request.schema is not None,
            calls=call_format(model.tokenizer) if request.tools else None,
            tools=[tool["function"]["name"] for tool in request.tools],
        )
        self._generated: list[int] = []
        self._statistics = Statistics()

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the answer any more."""
        return self._job.cancelled

    @property
    def needs_solo(self) -> bool:
        """Whether no batch can serve it.

        It has a seed, a quantised KV cache or a draft model, or the model knows no batches.
        """
        request = self.request
        own_state = request.seed is not None or request.kv_bits is not None
        return own_state or self.draft_request is not None or not self.model.batches

    @property
    def penalties(self) -> list[Callable[[Any, Any], Any]]:
        """The logits processors that are not the schema's."""
        return self._penalties

    @property
    def processors(self) -> list[Callable[[Any, Any], Any]]:
        """The logits processors, in order."""
        return [*self._penalties, self.constraint] if self.constraint else self._penalties

    @property
    def tokens(self) -> list[int]:
        """The prompt and the tokens generated so far."""
        return self.prompt + self._generated

    @property
    def tokens_left(self) -> int:
        """The number of tokens that may still be generated."""
        return self.max_tokens - len(self._generated)

    @property
    def max_length(self) -> int:
        """The largest number of tokens that prompt and answer can reach."""
        return len(self.prompt) + self.max_tokens

    def prepare(self, cache_kind: str = PLAIN) -> tuple[Any, list[int]]:
        """Get ready to generate the next token, with KV caches of this kind.

        Returns the KV cache of a prefix of the tokens so far, or None, and the tokens left to
        process. A runner that continues the sequence calls it again. Raises TieredError.
        """
        self.constraint = self._make_constraint()
        self.cache.kind = cache_kind
        cache, unread = self.cache.fetch(self.tokens)
        if self._cached_tokens is None:
            self._cached_tokens = len(self.prompt) - len(unread)
        return cache, unread

    def report_prefill(self, done: int, total: int) -> None:
        """Report how many of the tokens have been processed, before the first one is generated."""
        if not self._generated:
            self._job.emit(Prefill(done, total))

    def push(
        self, token: int, finish_reason: str | None, step: StepLogprobs | None, row: int = 0
    ) -> str | None:
        """Add the next token, whose log-probability is in this row of the step.

        Without a step, it was the only one possible.
        Returns the finish reason once the answer is complete. Raises an error if this sequence
        can't continue; others are not affected.
        """
        if self.constraint and self.constraint.left_no_choice(len(self._generated)):
            step = None
        self._generated.append(token)
        self.model.rate.add()
        self._statistics.add_token(step, row)
        if self.constraint and self.constraint.error:
            raise self.constraint.error
        # The token that ends the turn is not part of the answer.
        pieces = (
            []
            if finish_reason == "stop"
            else self._decoder.push(token, self._logprob(token, step, row))
        )
        if finish_reason:
            pieces += self._decoder.finish()
        for piece in pieces:
            for event in self._events(piece, finish_reason):
                self._job.emit(event)
        reason = "stop" if self._decoder.stopped else finish_reason
        if reason:
            self._job.emit(self._summary(reason))
            self.end()
        return reason

    def count_passes(self, passes: int, guessed: int = 0, kept: int = 0) -> None:
        """Count passes that give the next tokens, the tokens guessed and those that were right."""
        self._statistics.add_passes(passes, guessed, kept)

    def fail(self, error: Exception) -> None:
        """End the request with an error."""
        if not self._has_ended:
            self._has_ended = True
            self._job.fail(error)

    def end(self) -> None:
        """End the request, so that its slot is free for another one."""
        if not self._has_ended:
            self._has_ended = True
            self._job.release()

    def _find_checkpoints(self) -> list[int]:
        """Return the lengths of the prompt's parts whose KV caches are kept."""
        if self.model.trims_caches or not self.cache.is_enabled:
            # Nothing is kept, or the final cache serves every part.
            return []
        request = self.request
        return checkpoints.find(
            self.model.tokenizer,
            request.chat,
            self.prompt,
            tools=request.tools,
            thinking=_thinking(request),
        )

    def _make_constraint(self) -> Constraint | None:
        """Return the schema's constraint, in the state that follows the tokens so far."""
        if self.request.schema is None:
            return None
        grammar = compile_schema(self.request.schema, self.model.grammar_tokenizer())
        tokenizer = self.model.tokenizer
        if self._thinking == "never":
            return make_constraint(grammar, self._generated)
        start = tokenizer.think_start_tokens if self._thinking == "possible" else ()
        return make_constraint(grammar, self._generated, tokenizer.think_end_tokens, start)

    def _logprob(self, token: int, step: StepLogprobs | None, row: int) -> TokenLogprob | None:
        """Return what is known of the token's likelihood, if the request wants to know."""
        number = self.request.logprobs
        if number is None:
            return None
        # Where a schema leaves no choice, the token has the probability 1.
        value = step.read()[row] if step else 0.0
        likely = step.most_likely(row, number) if step else [(token, value)][:number]
        top = tuple(TokenLogprob(self.model.token_bytes(each), one) for each, one in likely)
        return TokenLogprob(self.model.token_bytes(token), value, top)

    def _events(self, piece: Piece, finish_reason: str | None) -> list[Event]:
        """Return what to report of a piece: a text may hold several tool calls, or a bad one."""
        if not isinstance(piece, ToolText):
            return [piece]
        try:
            form = call_format(self.model.tokenizer)
            return [*parse_calls(form, piece.text, self.request.tools)]
        except ValueError as error:
            if piece.bare and isinstance(error, UnreadableCall):
                end = self.model.tokenizer.tool_call_end if piece.closed else ""
                return [Text(f"{piece.text}{end}", piece.logprobs)]
            bad_call = BadToolCall(
                text=piece.text,
                reason=str(error),
                limit=None if piece.closed else self._limit(finish_reason),
                prompt_tokens=len(self.prompt),
                cached_tokens=self._cached_tokens or 0,
                generation_tokens=len(self._generated),
                reasoning_tokens=self._decoder.reasoning_tokens,
            )
            return [bad_call]

    def _summary(self, finish_reason: str) -> Done:
        done = self._statistics.summary(
            finish_reason,
            prompt_tokens=len(self.prompt),
            cached_tokens=self._cached_tokens or 0,
            schema_level=self.constraint.grammar.level if self.constraint else None,
            cut_off_by=self._cut_off_by(finish_reason),
        )
        return replace(
            done,
            limit=self._limit(finish_reason),
            in_thoughts=self._decoder.is_thinking,
            called_in_thoughts=self._decoder.called_in_thoughts,
            reasoning_tokens=self._decoder.reasoning_tokens,
        )

    def _limit(self, finish_reason: str | None) -> Limit | None:
        """Return the limit of tokens that has been reached, or None."""
        if finish_reason != "length":
            return None
        return "context" if self.max_tokens < self.request.max_tokens else "max_tokens"

    def _cut_off_by(self, finish_reason: str) -> CutOff | None:
        """Return what ended a JSON answer before it was complete, or None."""
        if self.constraint is None or self.constraint.is_complete(len(self._generated)):
            return None
        if finish_reason == "length":
            return "length"
        return "stop string" if self._decoder.stopped else "model"


def _check_tools(request: GenerationRequest, model: LoadedModel) -> None:
    """Raise RequestError if the request's tools can't be used."""
    if request.tools and not model.tokenizer.has_tool_calling:
        raise RequestError(f"{request.model} can't do tools")
    if request.tools and request.schema:
        raise RequestError("a local model can't combine tools with a schema")


def _encode(request: GenerationRequest, model: LoadedModel) -> list[int]:
    """Return the prompt's tokens. Raises RequestError if the chat template rejects the chat."""
    from jinja2 import TemplateError

    try:
        return messages.encode(
            model.tokenizer, request.chat, tools=request.tools, thinking=_thinking(request)
        )
    except TemplateError as error:
        raise RequestError(
            f"the chat template of {request.model} rejects the conversation: {error}"
        ) from None


def _thinking(request: GenerationRequest) -> bool | None:
    """Return whether the model reasons first, or None to leave it to the chat template."""
    # By default, a schema covers the whole answer: no reasoning comes before it.
    return False if request.thinking is None and request.schema else request.thinking


def _thinking_in_answer(
    request: GenerationRequest, model: LoadedModel, prompt: list[int]
) -> Thinking:
    """Return whether the answer begins with thoughts."""
    thinking = thinking_after(model.tokenizer, prompt)
    if request.schema and not model.tokenizer.has_thinking:
        # A mask can begin after certain tokens, but not after a text that any tokens may spell.
        return "never"
    if thinking == "possible" and request.schema and not request.thinking:
        return "never"
    return thinking


def _tokens_left(request: GenerationRequest, model: LoadedModel, prompt_tokens: int) -> int:
    """Return how many tokens fit into the context after the prompt.

    Raises PromptTooLong if there is no room for any.
    """
    context = model.files.context_length
    if context is None:
        return request.max_tokens
    if prompt_tokens >= context:
        raise PromptTooLong(
            f"the prompt has {prompt_tokens:,} tokens, and the context of "
            f"{request.model} holds {context:,}"
        )
    return context - prompt_tokens


def _sampling_options(request: GenerationRequest, model: LoadedModel) -> dict[str, float]:
    """Return the sampling options: the request's, and the model's own for the rest."""
    options = model.sampling | dict(request.sampling)
    # Some generation_config.json files hold a top_k of -1, and mlx-lm rejects one that exceeds
    # the vocabulary. Both mean no limit.
    if not 0 < options.get("top_k", 0) < model.logits_width:
        options.pop("top_k", None)
    return options


def _make_sampler(request: GenerationRequest, options: dict[str, float]) -> Callable[[Any], Any]:
    if request.seed is None:
        return sampling.make_sampler(options)
    return sampling.make_seeded_sampler(options, request.seed)
