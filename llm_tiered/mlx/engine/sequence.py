"""One request while it is being served: its tokens in, its events out."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...errors import EngineError, PromptTooLong, RequestError
from ..tokens import messages, sampling, tools
from ..tokens.decoding import Decoder
from ..tokens.logprobs import Logprobs
from ..tokens.structured import Constraint, compile_schema
from . import kv
from .requests import BadToolCall, Done, Prefill, ToolCall, ToolText

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tokens.logprobs import Sampled
    from .job import Job
    from .requests import CutOff
    from .residency import Loaded


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
        self._penalties = sampling.penalties(settings)
        self.constraint: Constraint | None = None
        # Masks and penalties can't follow a draft model's guesses. Without them the answer is the
        # same.
        self.drafting = None if self._penalties or request.schema else request.drafting
        # What a batch can't give: a random state, a KV cache or a draft model of its own.
        self.alone = (
            request.seed is not None or request.kv_bits is not None or self.drafting is not None
        )
        self._kind = kv.PLAIN
        self._cached: int | None = None
        # What it has read, on its way from one generator to another.
        self._held: Any = None
        self._opened = messages.opens_thinking(tokenizer, self.prompt)
        self._decoder = Decoder(
            tokenizer, request.stop, tools=bool(request.tools), opened=self._opened
        )
        self._generated: list[int] = []
        self._logprobs = Logprobs()
        self._began = time.perf_counter()
        self._first = self._began

    def start(self, kind: str = kv.PLAIN) -> tuple[Any, list[int]]:
        """Make ready to generate the next token, with KV caches of that kind.

        Gives what was read before of the tokens so far, or None, and those left to read. To be
        called again where a generator fails and another one goes on. Raises TieredError.
        """
        self.constraint = self._constraint()
        self._kind = kind
        cache, unread = self._read_before()
        if self._cached is None:
            self._cached = len(self.prompt) - len(unread)
        return cache, unread

    def prefilled(self, done: int, total: int) -> None:
        """Tell how much of the prompt has been read."""
        if not self._generated:
            self._job.emit(Prefill(done, total))

    def push(
        self, token: int, finish_reason: str | None, sampled: Sampled, row: int = 0
    ) -> str | None:
        """Take the next token; gives why the answer is complete, or None if it is not.

        `sampled` has its log-probability in that row. Whatever goes wrong with this request ends
        it, and no other.
        """
        if not self._generated:
            self._first = time.perf_counter()
        self._generated.append(token)
        self._logprobs.add(sampled, row)
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
        if self.request.seed is not None:
            return
        with suppress(Exception):
            read = tokens[: kv.length(cache)]
            kv.compact(cache)
            self.loaded.prefixes.store(read, cache, self._kind)
            if self.request.kv_store is not None:
                self.request.kv_store.keep(self._source, read, cache)

    def hold(self, cache: Any) -> None:
        """Take along what it has read of its tokens, to where it goes on."""
        with suppress(Exception):
            kv.compact(cache)
            self._held = cache

    @property
    def processors(self) -> list[Callable[[Any, Any], Any]]:
        """What changes the logits before a token is sampled."""
        return [*self._penalties, self.constraint] if self.constraint else self._penalties

    @property
    def tokens(self) -> list[int]:
        """The prompt and what has been generated so far."""
        return self.prompt + self._generated

    @property
    def tokens_left(self) -> int:
        """How many tokens it may still generate."""
        return self.max_tokens - len(self._generated)

    @property
    def most_tokens(self) -> int:
        """How many tokens it has in the end, at most."""
        return len(self.prompt) + self.max_tokens

    @property
    def _source(self) -> str:
        """What the KV caches on disk go by."""
        return f"{self.loaded.version} {self._kind}" if self._kind else self.loaded.version

    def _read_before(self) -> tuple[Any, list[int]]:
        """What of its tokens this process, or an earlier one, has read; and what is left."""
        tokens = self.tokens
        if self.request.seed is not None:
            # It repeats to the last bit only where everything is read in the same way.
            return None, tokens
        held, self._held = self._held, None
        if held:
            return kv.resume(held, tokens)
        cache, unread = self.loaded.prefixes.fetch(tokens, self._kind)
        if self.request.kv_store is not None:
            stored, held = self.request.kv_store.find(self._source, tokens)
            if held > len(tokens) - len(unread):
                return stored, tokens[held:]
        return cache, unread

    def _read_call(self, written: ToolText) -> ToolCall | BadToolCall:
        try:
            return tools.parse(self.loaded.tokenizer.tool_parser, written.text, self.request.tools)
        except ValueError as error:
            return BadToolCall(
                text=written.text,
                reason=str(error),
                prompt_tokens=len(self.prompt),
                cached_tokens=self._cached or 0,
                generation_tokens=len(self._generated),
            )

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

    def _constraint(self) -> Constraint | None:
        """The schema's constraint, which knows of all tokens that were generated so far."""
        if self.request.schema is None:
            return None
        grammar = compile_schema(self.request.schema, self.loaded.grammar_tokenizer())
        written = self._generated
        after = self._thinking_end()
        if after is not None and after in written:
            written = written[written.index(after) + 1 :]
            after = None
        if after is None:
            grammar.matcher.consume_tokens(written)
        return Constraint(grammar, after=after)

    def _thinking_end(self) -> int | None:
        """The token before which no schema holds, where the model thinks first."""
        tokenizer = self.loaded.tokenizer
        thinks = tokenizer.has_thinking and (self._opened or self.request.thinking)
        return tokenizer.think_end_id if thinks else None

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

    def _done(self, finish_reason: str) -> Done:
        import mlx.core as mx

        logprobs = self._logprobs.values()
        now = time.perf_counter()
        generated, read = len(self._generated), len(self.prompt) - (self._cached or 0)
        lowest_tenth = sorted(logprobs)[: max(1, generated // 10)]
        return Done(
            finish_reason=finish_reason,
            prompt_tokens=len(self.prompt),
            cached_tokens=self._cached or 0,
            generation_tokens=generated,
            prompt_tps=round(read / max(self._first - self._began, 1e-9), 1),
            generation_tps=round((generated - 1) / max(now - self._first, 1e-9), 1),
            peak_memory=mx.get_peak_memory(),
            mean_logprob=sum(logprobs) / generated,
            lowest_logprob=lowest_tenth[0],
            decile_logprob=sum(lowest_tenth) / len(lowest_tenth),
            schema_level=self.constraint.grammar.level if self.constraint else None,
            cut_off_by=self._cut_off_by(finish_reason),
        )
