"""One request on its way: the decision, the attempts, and what is known of the answer."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import llm

from ..config.settings import load_settings
from ..errors import EmptyAnswer, ModelUnavailable, RequestError
from ..log import conversation as history
from . import attempts as chain
from . import checks as readiness
from . import inner as nested
from .candidates import ladder, order
from .decision import Request, decide
from .failures import Problem, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from llm.models import _BaseConversation, _BaseModel, _BaseResponse

    from ..cache.answers import Answer
    from ..estimator import Estimate
    from ..log.conversation import Past
    from ..log.record import Attempt
    from .attempts import Step
    from .candidates import Candidate
    from .decision import Decision
    from .quality import Verdict

logger = logging.getLogger("llm_tiered")

COOLDOWNS = chain.Cooldowns()

# What a request is taken for that does not say its temperature: the default of Gemini.
UNSAID_TEMPERATURE = 1.0


class Routed:
    """One request on its way. Raises RequestError or ConfigError where it can't be decided."""

    def __init__(
        self, prompt: llm.Prompt, conversation: _BaseConversation | None, key: str | None
    ) -> None:
        self.started = time.perf_counter()
        self.prompt = prompt
        self.key = key
        self.settings = load_settings()
        self.attempts: list[Attempt] = []
        options: Any = prompt.options
        past = history.last_turn(conversation)
        request = Request(
            text=nested.last_said(prompt),
            complexity=options.complexity,
            task=options.task,
            tier=options.tier,
            local_only=bool(options.local_only),
            fallback=options.fallback,
            conversation_tier=past.tier,
            conversation_complexity=past.complexity,
            conversation_source=past.source,
            conversation_kept_local=past.kept_local,
            estimate=self._estimate(past),
        )
        self.decision: Decision = decide(request, self.settings)
        self.candidates: tuple[Candidate, ...] = order(self.decision, self.settings)
        self.requested: dict[str, Any] = {
            name: value for name in nested.SAMPLING if (value := getattr(options, name)) is not None
        }
        self.escalates = self._escalates()
        self.recalls = self._recalls()
        self.recalled: Answer | None = None
        # To find one takes reading all attachments.
        self._addresses: dict[str, str | None] = {}

    def steps(self) -> Generator[Step, Problem | None, Candidate]:
        """What is to be done for an answer, one after the other."""
        above = ladder(self.decision, self.settings) if self.escalates else ()
        return chain.run(
            self.candidates, COOLDOWNS, self.attempts, ladder=above, recall=self.recalls
        )

    def known_problem(
        self, candidate: Candidate, find: Callable[[str], _BaseModel]
    ) -> Problem | None:
        """Why the candidate would be skipped now, or None."""
        return COOLDOWNS.check(candidate.model) or self.check(candidate, find)

    def check(self, candidate: Candidate, find: Callable[[str], _BaseModel]) -> Problem | None:
        """Why the candidate is known not to work, or None. `find` gives a model by its name."""
        from .. import hooks
        from . import budget

        try:
            inner = find(candidate.model)
            if candidate.local and not getattr(inner, "runs_here", False):
                raise ModelUnavailable("has the name of a local model, and is none")
            options = self.options(candidate, inner)
            if veto := hooks.veto(candidate.tier, candidate.model, self.prompt):
                return Problem(veto)
            readiness.check(inner, self.prompt, self.settings.config, self.key)
            if not candidate.local:
                budget.check(self.settings.config.budget, inner, self.prompt, options)
        except (llm.ModelError, ValueError) as error:
            return self.explain(error)
        return None

    def recall(self, candidate: Candidate, find: Callable[[str], _BaseModel]) -> Problem | None:
        """Look for an answer that the candidate gave before; None if `recalled` is one."""
        from ..cache import lookup as cache

        settings = self.settings.config.cache
        try:
            inner = find(candidate.model)
            key = self.address(candidate, inner)
        except (llm.ModelError, ValueError) as error:
            return self.explain(error)
        newest = datetime.now(timezone.utc) - settings.ttl if settings.ttl else None
        found = cache.find(key, newer_than=newest) if key else None
        if found is None or (self.judges(candidate) and self._weak(found)):
            return Problem("not answered before")
        self.recalled = found
        return None

    def address(self, candidate: Candidate, inner: _BaseModel) -> str | None:
        """The address of this request to that model, by which its answer is found again."""
        from ..cache import lookup as cache

        if candidate.model not in self._addresses:
            options = self.options(candidate, inner).model_dump(exclude_none=True)
            self._addresses[candidate.model] = cache.key(self.prompt, inner.model_id, options)
        return self._addresses[candidate.model]

    def answer_key(self, candidate: Candidate, inner: _BaseModel) -> str | None:
        """The key of an answer; a weak one, for want of a better, is not to be given again."""
        return None if self.attempts[-1].reason else self.address(candidate, inner)

    def options(self, candidate: Candidate, inner: _BaseModel) -> llm.Options:
        """The inner model's options for this request."""
        return nested.inner_options(inner, candidate.options, self.requested)

    def explain(self, error: Exception) -> Problem:
        """What went wrong with an attempt."""
        return explain(error, secrets=_secrets(self.key))

    def judges(self, candidate: Candidate) -> bool:
        """Whether the candidate's whole answer is looked at before any of it is shown."""
        return self.escalates and candidate.local

    def judge(
        self,
        candidate: Candidate,
        text: str,
        inner: _BaseResponse,
        tool_calls: Sequence[llm.ToolCall],
    ) -> Problem | None:
        """Why an answer that is complete is not good enough, or None."""
        if tool_calls:
            return None
        if not text or not self.judges(candidate):
            raise _empty(inner)
        from ..log.record import ESCALATED

        verdict = self._verdict(text, inner.response_json)
        if verdict is None:
            return None
        return Problem(
            ESCALATED + verdict.reason, rises=True, usable=True, correction=verdict.correction
        )

    def failed(self, candidate: Candidate, error: Exception, text: str) -> Problem:
        """What went wrong with an attempt, after that much text."""
        problem = self.explain(error)
        if not self.judges(candidate) or not isinstance(error, (EmptyAnswer, RequestError)):
            return problem
        from ..log.record import ESCALATED
        from .quality import correction

        retry = correction(problem.reason) if text and self.prompt.schema else None
        return replace(problem, reason=ESCALATED + problem.reason, rises=True, correction=retry)

    def answered(self, candidate: Candidate) -> int:
        """Tell of a fallback, once; gives the milliseconds up to the first output."""
        if candidate is not self.candidates[0] or len(self.attempts) > 1:
            why = "; ".join(
                f"{attempt.model} {attempt.outcome}: {attempt.reason}"
                for attempt in self.attempts[:-1]
            )
            logger.warning("%s answers for %s. %s", candidate.model, self.decision.tier, why)
        return round((time.perf_counter() - self.started) * 1000)

    def record(self, ttft_ms: int, response_json: Any, *, key: str | None = None) -> dict[str, Any]:
        """What the log keeps of this request. `key` finds the answer again; None keeps it out."""
        decision = self.decision
        rollout = {"rollout": asdict(decision.rollout)} if decision.rollout else {}
        return {
            "tiered": {
                "complexity": decision.complexity,
                "source": decision.source,
                "task": decision.task,
                "tier": decision.tier,
                "attempts": [asdict(attempt) for attempt in self.attempts],
                "ttft_ms": ttft_ms,
                "cached_from": self.recalled.turn_id if self.recalled else None,
                "key": key,
                "escalates": self.escalates,
                "local_only": decision.keep_local,
                **rollout,
            },
            "response": response_json,
        }

    def _estimate(self, past: Past) -> Estimate | None:
        """What the text says of its complexity, where that counts.

        A loop of tools stays with the model that began it.
        """
        options: Any = self.prompt.options
        said = (options.tier, options.complexity, options.task)
        if any(value is not None for value in said) or not self.settings.config.estimate:
            return None
        stays = self.settings.tier(past.tier or "") is not None
        if stays and (past.source != "estimate" or self.prompt.tool_results):
            return None
        from .. import hooks
        from ..estimator import current, estimate

        prompt = self.prompt
        return hooks.estimate(prompt) or estimate(
            nested.last_said(prompt),
            messages=prompt.messages,
            attachments=len(prompt.attachments),
            tools=len(prompt.tools),
            schema=prompt.schema is not None,
            coefficients=current(),
        )

    def _weak(self, answer: Answer) -> bool:
        return self._verdict(nested.text_of(answer.events), answer.response_json) is not None

    def _verdict(self, text: str, facts: Any) -> Verdict | None:
        from .quality import judge

        schema: Any = self.prompt.schema
        return judge(text, facts or {}, schema)

    def _recalls(self) -> bool:
        """Whether earlier answers will do: the request says, else its task, else the config."""
        options: Any = self.prompt.options
        cache = self.settings.config.cache
        task = self.settings.config.tasks.get(options.task or "")
        said = (options.cache, task.cache if task else None, cache.enabled)
        if not next(value for value in said if value is not None):
            return False
        return cache.temperature_max is None or self._temperature() <= cache.temperature_max

    def _temperature(self) -> float:
        tier = self.settings.tier(self.decision.tier)
        said = self.requested.get("temperature", tier and tier.options.get("temperature"))
        try:
            # The config may have it as text, as the model's own options do.
            return UNSAID_TEMPERATURE if said is None else float(said)
        except (TypeError, ValueError):
            return UNSAID_TEMPERATURE

    def _escalates(self) -> bool:
        """Whether weak answers go up: the request says, else its task, else its tier."""
        options: Any = self.prompt.options
        task = self.settings.config.tasks.get(options.task or "")
        tier = self.settings.tier(self.decision.tier)
        for said in (options.escalate, task.escalate if task else None):
            if said is not None:
                return bool(said)
        return tier is not None and tier.escalate


def _empty(inner: _BaseResponse) -> EmptyAnswer:
    """The error for an answer without content, with the reason that the service gave."""
    said: Any = inner.response_json or {}
    candidates = said.get("candidates") or [{}]
    reason = said.get("promptFeedback", {}).get("blockReason") or candidates[0].get("finishReason")
    return EmptyAnswer("answered with nothing" + (f" ({reason})" if reason else ""))


def _secrets(key: str | None) -> list[str | None]:
    """The keys that must not be shown: the request's, the environment's and the stored ones."""
    try:
        stored: dict[str, str] = llm.load_keys()
    except (OSError, ValueError):
        stored = {}
    # What the request calls its key can be the name of a stored one.
    given = None if key in stored else key
    return [given, os.environ.get("LLM_GEMINI_KEY"), *stored.values()]
