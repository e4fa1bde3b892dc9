"""The cache as one request sees it: whether an earlier answer will do, and which one."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import llm

from ..errors import RequestError
from ..gemini import DEFAULT_TEMPERATURE
from .inner import text_of
from .problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm.models import _BaseModel

    from ..cache.answers import CachedAnswer
    from .candidates import Candidate
    from .request import TieredRequest


class RequestCache:
    """The cache as one request uses it. `answer` is its earlier answer, once that is found."""

    def __init__(self, request: TieredRequest) -> None:
        self.answer: CachedAnswer | None = None
        self._request = request
        # Computing a key reads all attachments, so it is done once for each model.
        self._keys: dict[str, str | None] = {}

    @property
    def enabled(self) -> bool:
        """Whether an earlier answer will do: the request decides, else its task, else the config.

        A request above the config's `temperature_max` always gets a new answer.
        """
        config = self._request.settings.config
        options: Any = self._request.prompt.options
        task = config.tasks.get(self._request.decision.task or "")
        choices = (options.cache, task.cache if task else None, config.cache.enabled)
        if not next(choice for choice in choices if choice is not None):
            return False
        limit = config.cache.temperature_max
        return limit is None or self._temperature() <= limit

    def recall(self, candidate: Candidate, find: Callable[[str], _BaseModel]) -> Problem | None:
        """Look for the candidate's earlier answer; return None once `answer` holds it."""
        from ..cache.lookup import find as find_answer

        request = self._request
        try:
            cache_key = self.key(candidate, find(candidate.model))
        except (llm.ModelError, ValueError) as error:
            return request.explain(error, candidate)
        ttl = request.settings.config.cache.ttl
        newer_than = datetime.now(timezone.utc) - ttl if ttl else None
        answer = find_answer(cache_key, newer_than=newer_than) if cache_key else None
        if answer is None or not self._fits(answer):
            return Problem("not answered before")
        if request.judges(candidate) and self._is_weak(answer):
            return Problem("not answered before")
        self.answer = answer
        return None

    def key(self, candidate: Candidate, inner: _BaseModel) -> str | None:
        """The cache key of this request to that model, or None if it can't be cached."""
        from ..cache.key import cache_key

        if candidate.model not in self._keys:
            options = self._request.options(candidate, inner).model_dump(exclude_none=True)
            # A repeated answer would come without the log-probabilities of its pieces.
            cacheable = "logprobs" not in options
            self._keys[candidate.model] = (
                cache_key(self._request.prompt, inner.model_id, options) if cacheable else None
            )
        return self._keys[candidate.model]

    def key_of_answer(self, candidate: Candidate, inner: _BaseModel) -> str | None:
        """The cache key of the answer, or None for a weak answer kept only as a last resort."""
        return None if self._request.attempts[-1].reason else self.key(candidate, inner)

    def _fits(self, answer: CachedAnswer) -> bool:
        """Whether the answer fits the schema: earlier versions logged some that do not."""
        schema: Any = self._request.prompt.schema
        if not schema:
            return True
        from .. import json_schema

        try:
            json_schema.validate(text_of(answer.events), schema)
        except RequestError:
            return False
        return True

    def _is_weak(self, answer: CachedAnswer) -> bool:
        from .quality import judge

        schema: Any = self._request.prompt.schema or None
        return judge(text_of(answer.events), answer.response_json or {}, schema) is not None

    def _temperature(self) -> float:
        request = self._request
        tier = request.settings.tier(request.decision.tier)
        temperature = request.requested.get("temperature", tier and tier.options.get("temperature"))
        try:
            # The config may have it as text; the model's own options accept that, too.
            return DEFAULT_TEMPERATURE if temperature is None else float(temperature)
        except (TypeError, ValueError):
            return DEFAULT_TEMPERATURE
