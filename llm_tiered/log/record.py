"""The record that `tiered` leaves with each response in llm's log: its one writer and one reader.

`response_json` of a turn holds `{"tiered": <the record>, "response": <the inner model's own>}`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

Outcome: TypeAlias = Literal["ok", "skipped", "failed"]
Source: TypeAlias = Literal["tier", "option", "task", "conversation", "estimate", "default"]

# The keys of response_json.
RECORD = "tiered"
RESPONSE = "response"

# How the reason begins of an attempt whose answer was there, but too weak to be shown.
ESCALATED = "escalated: "

# Where a field's name in the JSON is not its name here. `key` was the name before the API key
# and the cache key were told apart.
_JSON_NAMES = {"cache_key": "key"}


@dataclass(frozen=True)
class Attempt:
    """One try of one model: how it ended, why, and after how many milliseconds, retries included.

    `reason` is None for an attempt that gave the answer; an answer that was too weak but had to
    do has one.
    """

    tier: str
    model: str
    outcome: Outcome
    reason: str | None
    ms: int


@dataclass(frozen=True)
class Rollout:
    """A tier or task that receives only a share of its requests, and whether this is one of them.

    `share` goes from 0 to 1.
    """

    name: str
    share: float
    included: bool


@dataclass(frozen=True)
class Record:
    """Where a request went and why. None stands for what the log does not say.

    `tier` is the one that was decided on, which need not be the one that answered. `ttft_ms` is
    the time to the first output in milliseconds. `cached_from` is the id of the turn whose answer
    was repeated. `cache_key` finds this answer again; without one it is not repeated. `escalates`
    says that weak local answers were to go a tier up, `local_only` that nothing was to leave this
    machine.
    """

    tier: str | None = None
    complexity: int | None = None
    source: Source | None = None
    task: str | None = None
    attempts: tuple[Attempt, ...] = ()
    ttft_ms: int | None = None
    cached_from: str | None = None
    cache_key: str | None = None
    escalates: bool | None = None
    local_only: bool = False
    rollout: Rollout | None = None

    @property
    def answered_by(self) -> str | None:
        """The tier whose model gave the answer: the decided one, or a fallback's."""
        answers = [attempt.tier for attempt in self.attempts if attempt.outcome == "ok"]
        return answers[-1] if answers else None

    @property
    def fallback_reason(self) -> str | None:
        """Why the first model did not answer, or None if it did."""
        return self.attempts[0].reason if self.attempts else None

    def to_json(self, response: Any) -> dict[str, Any]:
        """The response_json for llm's log. `response` is the inner model's own response_json."""
        record: dict[str, Any] = {
            "complexity": self.complexity,
            "source": self.source,
            "task": self.task,
            "tier": self.tier,
            "attempts": [asdict(attempt) for attempt in self.attempts],
            "ttft_ms": self.ttft_ms,
            "cached_from": self.cached_from,
            _JSON_NAMES["cache_key"]: self.cache_key,
            "escalates": self.escalates,
            "local_only": self.local_only,
        }
        if self.rollout:
            record["rollout"] = asdict(self.rollout)
        return {RECORD: record, RESPONSE: response}

    @classmethod
    def from_json(cls, response_json: Any) -> Record | None:
        """The record in a turn's parsed response_json, or None if it holds none.

        A field of the wrong type reads as unknown, so that one damaged value hides nothing else.
        """
        record = response_json.get(RECORD) if isinstance(response_json, dict) else None
        if not isinstance(record, dict):
            return None
        escalates = record.get("escalates")
        return cls(
            tier=_text(record.get("tier")),
            complexity=_whole_number(record.get("complexity")),
            source=_source(record.get("source")),
            task=_text(record.get("task")),
            attempts=_attempts(record.get("attempts")),
            ttft_ms=_whole_number(record.get("ttft_ms")),
            cached_from=_text(record.get("cached_from")),
            cache_key=_text(record.get(_JSON_NAMES["cache_key"])),
            escalates=None if escalates is None else bool(escalates),
            local_only=record.get("local_only") is True,
            rollout=_rollout(record.get("rollout")),
        )


def inner_response(response_json: Any) -> Any:
    """What the inner model recorded of its response; of another model's response, all of it."""
    if isinstance(response_json, dict) and RECORD in response_json:
        return response_json.get(RESPONSE)
    return response_json


def json_path(field: str, *more: str) -> str:
    """Where a field of the record is, as SQLite's JSON functions take it: `$.tiered.tier`."""
    return ".".join(["$", RECORD, _JSON_NAMES.get(field, field), *more])


def sql(field: str, *more: str) -> str:
    """An SQL expression for a field of the record in `response_json`; null in a damaged row.

    `json_extract` would end the whole query at the first row whose JSON is broken.
    """
    path = json_path(field, *more)
    return f"case when json_valid(response_json) then json_extract(response_json, '{path}') end"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _source(value: Any) -> Source | None:
    return cast("Source", value) if value in get_args(Source) else None


def _attempts(values: Any) -> tuple[Attempt, ...]:
    if not isinstance(values, list):
        return ()
    return tuple(attempt for value in values if (attempt := _attempt(value)))


def _attempt(value: Any) -> Attempt | None:
    if not isinstance(value, dict):
        return None
    tier, model, outcome = (_text(value.get(name)) for name in ("tier", "model", "outcome"))
    if not tier or outcome not in get_args(Outcome):
        return None
    return Attempt(
        tier=tier,
        model=model or "",
        outcome=cast("Outcome", outcome),
        reason=_text(value.get("reason")),
        ms=_whole_number(value.get("ms")) or 0,
    )


def _rollout(value: Any) -> Rollout | None:
    if not isinstance(value, dict):
        return None
    name, share = _text(value.get("name")), value.get("share")
    if name is None or not isinstance(share, (int, float)):
        return None
    return Rollout(name, float(share), bool(value.get("included")))
