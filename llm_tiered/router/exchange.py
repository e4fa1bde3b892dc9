"""A request's path from its candidates to the end of its answer, without I/O.

`Exchange.steps` is a generator. It yields the answer's events, and between them operations that a
driver carries out, sync or async; the driver sends back the result, or throws in the error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import llm
from llm.parts import StreamEvent

from ..errors import AllTiersFailed, BrokenAnswer, EmptyAnswer, RequestError
from ..log.record import Record
from ..wording import counted, span
from . import completeness, option_names
from .attempts import Check, Recall, Step, Wait, run
from .billing import Billing
from .cached import RequestCache
from .candidates import origin
from .inner import finish, max_tokens, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from llm.models import _BaseModel, _BaseResponse

    from ..cache.answers import CachedAnswer
    from .candidates import Candidate
    from .problem import Problem
    from .request import TieredRequest

logger = logging.getLogger("llm_tiered")

# Characters of the warning that another model answers, and of the end of a reason that is cut.
_LONGEST_WARNING, _ENDING = 200, 20


@dataclass(frozen=True)
class Call:
    """Call a function that may block. Result: what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Open:
    """Start an inner response. Result: its stream of events."""

    response: Any


@dataclass(frozen=True)
class Next:
    """Continue reading a stream. Result: the next event, or None at the end."""

    stream: Any


@dataclass(frozen=True)
class ToolCalls:
    """Finish an inner response. Result: the list of its tool calls."""

    response: Any


Operation: TypeAlias = "Call | Open | Next | ToolCalls | Wait"
Steps: TypeAlias = Generator["StreamEvent | Operation", Any, Any]


@dataclass
class InnerAnswer:
    """The answer of one model: its events so far, and the stream that the rest comes from.

    `held` are the events that are not to be shown before it is known to be an answer. `calls` are
    its tool calls, once it `has_ended`.
    """

    response: _BaseResponse
    stream: Any
    events: list[StreamEvent] = field(default_factory=list)
    held: list[StreamEvent] = field(default_factory=list)
    calls: list[llm.ToolCall] = field(default_factory=list)
    has_ended: bool = False

    @property
    def text(self) -> str:
        """The answer's text so far, without reasoning."""
        return text_of(self.events)

    def corrected(self, correction: str) -> list[llm.Message]:
        """The messages that show the model its own answer and ask for a better one."""
        return [llm.assistant(self.text), llm.user(correction)]


class Exchange:
    """One request and the response it fills.

    `find` looks a model up by name; `respond` starts nothing, but makes the inner response for a
    model, its options and further messages.
    """

    def __init__(
        self,
        request: TieredRequest,
        response: _BaseResponse,
        find: Callable[[str], Any],
        respond: Callable[[Any, llm.Options, Sequence[llm.Message]], Any],
    ) -> None:
        self._request = request
        self._response = response
        self._find = find
        self._respond = respond
        self._started = time.perf_counter()
        self._cached = RequestCache(request)
        self._answers: dict[str, InnerAnswer] = {}
        self._rejected: InnerAnswer | None = None
        self.billing = Billing(response.id, request.settings.config.budget)

    def steps(self) -> Steps:
        """Yield the answer, and what has to be done for it. Raises TieredError."""
        candidate = yield from self._first_output()
        ttft_ms = round((time.perf_counter() - self._started) * 1000)
        self._warn_of_fallback(candidate)
        if self._cached.answer:
            yield from self._cached.answer.events
            self._finish_cached(self._cached.answer, ttft_ms)
            return
        answer = self._answers[candidate.model]
        yield from answer.held
        with self._unspliced(candidate):
            while not answer.has_ended:
                event = yield from self._read(candidate, answer)
                if event is not None:
                    yield event
        inner = answer.response
        if self.billing.has_attempts:
            yield Call(partial(self.billing.answered, inner))
        finish(self._response, inner, answer.calls)
        cut_off = completeness.is_cut_off(inner)
        cache_key = None if cut_off else self._cached.key_of_answer(candidate, inner.model)
        record = self._record(ttft_ms, cache_key=cache_key)
        self._response.response_json = record.to_json(inner.response_json)
        if cut_off and not max_tokens(inner.prompt.options):
            # A user who set a limit expects this.
            logger.warning("the answer of %s is cut off (raise max_tokens)", candidate.model)

    def _first_output(self) -> Generator[Any, Any, Candidate]:
        """Try the candidates until one begins its answer, and return that one."""
        request = self._request
        decision, overruled = request.decision, request.decision.overruled
        if overruled and decision.source == "tier":
            logger.warning("%s instead of %s: %s", decision.tier, overruled.tier, overruled.why)
        if request.decision.stuck:
            logger.warning(
                "the model is stuck (%s): %s takes over",
                request.decision.stuck,
                request.decision.tier,
            )
        attempts = run(
            request.candidates,
            request.cooldowns,
            request.attempts,
            ladder=request.ladder,
            recall=self._cached.enabled,
            key_in_use=request.key_in_use,
        )
        problem: Problem | None = None
        while True:
            try:
                step = attempts.send(problem)
            except StopIteration as answered:
                candidate: Candidate = answered.value
                return candidate
            except AllTiersFailed as error:
                self._show_rejected(error)
                raise
            problem = yield from self._perform(step)

    def _perform(self, step: Step) -> Generator[Any, Any, Problem | None]:
        problem: Problem | None = None
        if isinstance(step, Recall):
            problem = yield Call(partial(self._cached.recall, step.candidate, self._find))
        elif isinstance(step, Check):
            check = partial(self._request.check, step.candidate, self._find)
            # In a thread, it would take a busy event loop longer than the check itself.
            may_block = self._request.check_may_block(step.candidate)
            problem = (yield Call(check)) if may_block else check()
        elif isinstance(step, Wait):
            if step.asked_by:
                logger.warning(
                    "waiting %s for %s, as it asks", span(step.seconds), step.asked_by.model
                )
            yield step
        else:
            problem = yield from self._try(step.candidate, step.correction)
        return problem

    def _try(
        self, candidate: Candidate, correction: str | None
    ) -> Generator[Any, Any, Problem | None]:
        shown = self._response._stream_events
        before = len(shown)
        try:
            problem: Problem | None = yield from self._ask(candidate, correction)
        except Exception as error:
            yield Call(partial(self.billing.settle, error))
            problem = self._problem(candidate, error)
        if problem:
            yield Call(partial(self.billing.settle, None))
        if problem:
            if any(event.chunk for event in shown[before:]):
                # What comes next is on a line of its own.
                yield StreamEvent(type="reasoning", chunk="\n")
            # Thoughts that were shown as they came are not part of the next model's answer.
            del shown[before:]
        return problem

    def _problem(self, candidate: Candidate, error: Exception) -> Problem:
        """Why an attempt failed, and what it wrote."""
        from .quality import corrected, problem_with_attempt

        answer = self._answers.get(candidate.model)
        text = answer.text if answer else ""
        self._rejected = answer if answer and _would_fail_again(answer, error) else None
        problem = self._request.explain(error, candidate)
        if self._request.judges(candidate):
            return problem_with_attempt(problem, error, text, self._schema)
        return corrected(problem, error, text, self._schema)

    def _ask(
        self, candidate: Candidate, correction: str | None
    ) -> Generator[Any, Any, Problem | None]:
        """Read a model's answer up to its first words, or all of it where it has to be checked.

        Thoughts are shown as they come; what has nothing to show by itself waits for the words.
        """
        request = self._request
        judged = request.judges(candidate)
        inner: _BaseModel = self._find(candidate.model)
        more = self._answers[candidate.model].corrected(correction) if correction else ()
        self._answers.pop(candidate.model, None)
        response = self._respond(inner, request.options(candidate, inner), more)
        option_names.warn(inner, candidate.options, request.requested)
        if candidate.place == "cloud":
            yield Call(partial(self.billing.hold, inner, response, candidate.price))
        answer = InnerAnswer(response, (yield Open(response)))
        self._answers[candidate.model] = answer
        while (event := (yield from self._read(candidate, answer))) is not None:
            if not answer.held and not judged and _is_live(event):
                yield event
                continue
            answer.held.append(event)
            if event.type == "text" and event.chunk.strip() and not judged and not self._schema:
                return None
        if judged and not answer.calls:
            from .quality import problem_with_answer

            facts = response.response_json or {}
            return problem_with_answer(answer.text, facts, self._schema)
        return None

    def _read(
        self, candidate: Candidate, answer: InnerAnswer
    ) -> Generator[Any, Any, StreamEvent | None]:
        """The next event of an answer, or None at its end. Raises an error if it is not whole."""
        try:
            event: StreamEvent | None = yield Next(answer.stream)
        except ValueError as error:
            if cut_off := completeness.cut_off_call(answer.response, answer.events, error):
                raise cut_off from error
            raise
        if event is not None:
            answer.events.append(event)
            return event
        answer.has_ended = True
        answer.calls = yield ToolCalls(answer.response)
        completeness.check(
            answer.response, answer.events, calls=len(answer.calls), local=candidate.in_engine
        )
        return None

    @property
    def _schema(self) -> Any:
        return self._request.prompt.schema or None

    def _warn_of_fallback(self, candidate: Candidate) -> None:
        request = self._request
        if candidate is request.candidates[0] and len(request.attempts) == 1:
            return
        beginning = f"{candidate.model} answers for {request.decision.tier}."
        if self._cached.answer:
            beginning = f"{candidate.model} answered this before, for {request.decision.tier}."
        elif any(attempt.model == candidate.model for attempt in request.attempts[:-1]):
            beginning = f"No higher tier answered, so {candidate.model} does after all."
        reasons = [
            f"{attempt.model} {attempt.outcome}: {attempt.reason}"
            for attempt in request.attempts[:-1]
        ]
        logger.warning("%s", _fallback_line(beginning, reasons))

    @contextmanager
    def _unspliced(self, candidate: Candidate) -> Iterator[None]:
        """Turn an error after the first output into BrokenAnswer.

        Half an answer of one model is never completed by another.
        """
        try:
            yield
        except Exception as error:
            problem = self._request.explain(error, candidate)
            message = f"{candidate.model} broke off its answer: {problem.reason}"
            raise BrokenAnswer(message, fix=problem.fix) from error

    def _show_rejected(self, error: AllTiersFailed) -> None:
        """Hand on what the last model wrote and what it cost, though it is not the answer."""
        if self._rejected:
            inner = self._rejected.response
            error.rejected = self._rejected.text
            finish(self._response, inner, [])
            self._response.response_json = self._record(None).to_json(inner.response_json)

    def _finish_cached(self, answer: CachedAnswer, ttft_ms: int) -> None:
        """Fill the response for an answer from the log, which has no tokens and no cost."""
        self._response.set_usage(input=0, output=0)
        if answer.model:
            self._response.set_resolved_model(answer.model)
        record = self._record(ttft_ms, cached_from=answer.turn_id)
        self._response.response_json = record.to_json(answer.response_json)

    def _record(
        self, ttft_ms: int | None, *, cache_key: str | None = None, cached_from: str | None = None
    ) -> Record:
        request, decision = self._request, self._request.decision
        place, price = origin((*request.candidates, *request.ladder), request.attempts)
        return Record(
            tier=decision.tier,
            complexity=decision.complexity,
            source=decision.source,
            task=decision.task,
            attempts=tuple(request.attempts),
            ttft_ms=ttft_ms,
            cached_from=cached_from,
            cache_key=cache_key,
            escalates=request.escalates,
            local_only=decision.keep_local,
            private=decision.kept == "own",
            place=place,
            price=price,
            rollout=decision.rollout,
            rules=decision.rules,
            stuck=decision.stuck,
            switch=request.switch,
            overruled=decision.overruled,
        )


def _fallback_line(beginning: str, reasons: Sequence[str]) -> str:
    """Return a warning with the reasons, in fewer than _LONGEST_WARNING characters.

    A longer one has only the first reason, that of the model which should have answered; the log
    has them all. If need be, its middle is left out: services say at the end when to retry.
    """
    whole = f"{beginning} {'; '.join(reasons)}"
    if len(whole) < _LONGEST_WARNING:
        return whole
    others = f", and {counted(len(reasons) - 1, 'other')}" if reasons[1:] else ""
    end = f"{others} (more: llm tiered verify)"
    reason, room = reasons[0], _LONGEST_WARNING - len(beginning) - len(end) - 2
    if len(reason) > room:
        reason = f"{reason[: max(room - _ENDING - 1, 0)]}…{reason[-_ENDING:]}"
    return f"{beginning} {reason}{end}"


def _would_fail_again(answer: InnerAnswer, error: Exception) -> bool:
    """Whether the model would answer the same request just as badly: unfit, or with nothing."""
    if isinstance(error, EmptyAnswer):
        return completeness.is_cut_off(answer.response)
    return bool(answer.text) and isinstance(error, RequestError)


def _is_live(event: StreamEvent) -> bool:
    """Whether an event can be shown before it is known whether there will be an answer."""
    return event.type == "reasoning" or event.server_executed or not event.chunk
