"""One request while it is being served: its tokens in, its events out."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, PromptTooLong, RequestError
from . import messages, sampling, tools
from .decoding import Decoder
from .requests import (
    BadToolCall,
    Done,
    Prefill,
    ToolCall,
    ToolText,
)
from .structured import Constraint, compile_schema

if TYPE_CHECKING:
    from .job import Job
    from .requests import CutOff
    from .residency import Loaded

# Log-probabilities are read from the device this many at a time: each reading waits for it.
_LOGPROBS_AT_ONCE = 16


class Running:
    """A request on a loaded model. Only on the worker's thread.

    Raises TieredError where the request can't be served, before anything is generated.
    """

    def __init__(self, job: Job, loaded: Loaded) -> None:
        request = self.request = job.request
        self.ticket = job.ticket
        self.loaded = loaded
        self._job = job
        self._over = False
        tokenizer = loaded.tokenizer
        if request.tools and not tokenizer.has_tool_calling:
            raise RequestError(f"{request.model} can't do tools")
        if request.tools and request.schema:
            raise RequestError("a local model can't take tools and a schema at once")
        self.prompt = messages.encode(
            tokenizer, request.chat, tools=request.tools, thinking=self._thinking()
        )
        self.max_tokens = min(request.max_tokens, self._room())
        settings = loaded.sampling | dict(request.sampling)
        if not 0 < settings.get("top_k", 0) < loaded.width:
            settings.pop("top_k", None)
        if request.seed is None:
            self.sampler = sampling.sampler(settings)
        else:
            self.sampler = sampling.seeded(settings, request.seed)
        self.processors = sampling.penalties(settings)
        opened = messages.opens_thinking(tokenizer, self.prompt)
        self.constraint = self._constraint(opened=opened)
        if self.constraint:
            self.processors.append(self.constraint)
        # Masks and penalties can't follow a draft model's guesses. Without them the answer is the
        # same.
        self.drafting = None if self.processors else request.drafting
        # What a batch can't give: a random state, a KV cache or a draft model of its own. Alone it
        # reads all of its prompt: a seed repeats to the last bit only in that way.
        self.alone = (
            request.seed is not None or request.kv_bits is not None or self.drafting is not None
        )
        self.cache: Any = None
        self.unread = self.prompt
        if not self.alone:
            self.cache, self.unread = self._read_before()
        self._decoder = Decoder(tokenizer, request.stop, tools=bool(request.tools), opened=opened)
        self._generated: list[int] = []
        self._pending: list[Any] = []
        self._logprobs: list[float] = []
        self._began = time.perf_counter()
        self._first = self._began

    def prefilled(self, done: int, total: int) -> None:
        """Tell how much of the prompt has been read."""
        self._job.emit(Prefill(done, total))

    def push(self, token: int, logprobs: Any, finish_reason: str | None) -> str | None:
        """Take the next token; gives why the answer is complete, or None if it is not.

        `logprobs` is over the whole vocabulary. Whatever goes wrong with this request ends it,
        and no other.
        """
        if not self._generated:
            self._first = time.perf_counter()
        self._generated.append(token)
        self._note(token, logprobs)
        if self.constraint and self.constraint.error:
            raise EngineError(f"{self.request.model}: the schema's mask: {self.constraint.error}")
        # The token that ended the turn is not part of the answer.
        events = [] if finish_reason == "stop" else self._decoder.push(token)
        if finish_reason:
            events += self._decoder.finish()
        for event in events:
            self._job.emit(self._read_call(event) if isinstance(event, ToolText) else event)
        reason = "stop" if self._decoder.stopped else finish_reason
        if reason:
            self._job.emit(self._done(reason))
            self.end()
        return reason

    def fail(self, error: Exception) -> None:
        """End the request with an error."""
        if not self._over:
            self._over = True
            self._job.fail(error)

    def end(self) -> None:
        """Give its place to another request."""
        if not self._over:
            self._over = True
            self._job.ended()

    def keep(self, tokens: list[int], cache: Any) -> None:
        """Remember what has been read, for whoever asks next. What can't be kept is read again."""
        with suppress(Exception):
            self.loaded.prefixes.store(tokens, cache)
            if self.request.kv_store is not None:
                self.request.kv_store.keep(self.loaded.version, tokens, cache)

    @property
    def kv_bytes(self) -> int:
        """Bytes that the KV cache takes at most."""
        per_token = self.loaded.files.kv_bytes_per_token or 0
        return (len(self.prompt) + self.max_tokens) * per_token

    @property
    def tokens(self) -> list[int]:
        """The prompt and what has been generated so far."""
        return self.prompt + self._generated

    def _read_before(self) -> tuple[Any, list[int]]:
        """What of the prompt this process, or an earlier one, has read; and what is left of it."""
        cache, unread = self.loaded.prefixes.fetch(self.prompt)
        if self.request.kv_store is not None:
            stored, held = self.request.kv_store.find(self.loaded.version, self.prompt)
            if held > len(self.prompt) - len(unread):
                return stored, self.prompt[held:]
        return cache, unread

    def _read_call(self, written: ToolText) -> ToolCall | BadToolCall:
        try:
            return tools.parse(self.loaded.tokenizer.tool_parser, written.text, self.request.tools)
        except ValueError as error:
            return BadToolCall(written.text, str(error))

    def _cut_off_by(self, finish_reason: str) -> CutOff | None:
        """What ended a JSON answer before it was whole."""
        if self.constraint is None or self.constraint.complete:
            return None
        if finish_reason == "length":
            return "length"
        return "stop string" if self._decoder.stopped else "model"

    def _thinking(self) -> bool | None:
        # A schema is for the answer: unless the request says otherwise, nothing comes before it.
        if self.request.thinking is None and self.request.schema:
            return False
        return self.request.thinking

    def _constraint(self, *, opened: bool) -> Constraint | None:
        if self.request.schema is None:
            return None
        grammar = compile_schema(self.request.schema, self.loaded.grammar_tokenizer())
        tokenizer = self.loaded.tokenizer
        thinks = tokenizer.has_thinking and (opened or self.request.thinking)
        return Constraint(grammar, after=tokenizer.think_end_id if thinks else None)

    def _room(self) -> int:
        """How many tokens fit behind the prompt."""
        context = self.loaded.files.context_length
        if context is None:
            return self.request.max_tokens
        if len(self.prompt) >= context:
            raise PromptTooLong(
                f"the prompt has {len(self.prompt):,} tokens, and the context of "
                f"{self.request.model} holds {context:,}"
            )
        return context - len(self.prompt)

    def _note(self, token: int, logprobs: Any) -> None:
        self._pending.append(logprobs[token])
        if len(self._pending) >= _LOGPROBS_AT_ONCE:
            self._read_logprobs()

    def _read_logprobs(self) -> None:
        import mlx.core as mx

        if self._pending:
            values: Any = mx.stack(self._pending).astype(mx.float32).tolist()
            self._logprobs += values
            self._pending = []

    def _done(self, finish_reason: str) -> Done:
        import mlx.core as mx

        self._read_logprobs()
        now = time.perf_counter()
        generated = len(self._generated)
        lowest_tenth = sorted(self._logprobs)[: max(1, generated // 10)]
        return Done(
            finish_reason=finish_reason,
            prompt_tokens=len(self.prompt),
            cached_tokens=len(self.prompt) - len(self.unread),
            generation_tokens=generated,
            prompt_tps=round(len(self.unread) / max(self._first - self._began, 1e-9), 1),
            generation_tps=round((generated - 1) / max(now - self._first, 1e-9), 1),
            peak_memory=mx.get_peak_memory(),
            mean_logprob=sum(self._logprobs) / generated,
            lowest_logprob=lowest_tenth[0],
            decile_logprob=sum(lowest_tenth) / len(lowest_tenth),
            schema_level=self.constraint.grammar.level if self.constraint else None,
            cut_off_by=self._cut_off_by(finish_reason),
        )
