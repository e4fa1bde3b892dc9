"""The record that `tiered` keeps with each response in llm's log; only this module knows its form.

The `response_json` of a turn is `{"tiered": <the record>, "response": <the inner model's own>}`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from ..config.price import ConfigPrice
from ..config.terms import PLACES

if TYPE_CHECKING:
    from ..config.terms import Kept, Place

Outcome: TypeAlias = Literal["ok", "skipped", "failed"]
Source: TypeAlias = Literal["tier", "option", "task", "conversation", "rule", "estimate", "default"]
_OUTCOMES = frozenset(get_args(Outcome))
_SOURCES = frozenset(get_args(Source))

# The keys of response_json.
RECORD = "tiered"
RESPONSE = "response"

# Prefix of the reason of an attempt that gave an answer which was too weak to be shown.
ESCALATED = "escalated: "

# Fields with another name in the JSON: `key`, which here could be mistaken for the API key.
_JSON_NAMES = {"cache_key": "key"}


@dataclass(frozen=True)
class Attempt:
    """One try of one model: its outcome, the reason, and its duration in milliseconds with retries.

    `reason` is None for an attempt that gave the answer, unless that answer was too weak and was
    shown only because no other model answered.
    """

    tier: str
    model: str
    outcome: Outcome
    reason: str | None
    ms: int


@dataclass(frozen=True)
class Rollout:
    """A tier or task that only a share of its requests is sent to, and whether this one was.

    `share` is between 0 and 1.
    """

    name: str
    share: float
    included: bool


@dataclass(frozen=True)
class Overruled:
    """The tier that a request would have gone to, and why it may not: "nothing may leave …"."""

    tier: str
    why: str


@dataclass(frozen=True)
class Switch:
    """A conversation that went from one tier to another, or would have if that were `made`.

    The new model has to read the `tokens` of the earlier turns again, for so many `dollars`; None
    if the price is unknown.
    """

    origin: str
    target: str
    tokens: int
    dollars: float | None
    made: bool = True


@dataclass(frozen=True)
class Record:
    """Where a request went, and why. None means unknown.

    `tier` is the tier of the decision; a fallback may have answered. `ttft_ms` is the time to the
    first output in milliseconds. `cached_from` is the id of the turn whose answer was repeated.
    `cache_key` is the key under which the cache finds this answer; an answer without one is never
    repeated. `escalates` is whether weak local answers were sent to the next tier up, `local_only`
    whether the request had to stay on this machine, `private` whether it had to stay on the user's
    machines. `place` is where the model of the answer runs, and `price` what the config says that
    it costs, if it does. `rules` are the names of the rules that had
    a say: the one that chose the tier, if `source` is "rule", and those that restricted it. `stuck`
    is how the model of the tier below was stuck in a tool loop, if that raised the tier. `switch`
    is what it costs that the conversation changes its tier. `overruled` is the tier that the source
    of the decision gave, if the request may not go there.
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
    private: bool = False
    place: Place | None = None
    price: ConfigPrice | None = None
    rollout: Rollout | None = None
    rules: tuple[str, ...] = ()
    stuck: str | None = None
    switch: Switch | None = None
    overruled: Overruled | None = None

    @property
    def kept(self) -> Kept | None:
        """Where the request had to stay, if anywhere."""
        return "here" if self.local_only else "own" if self.private else None

    @property
    def answered_by(self) -> str | None:
        """The tier whose model gave the answer: that of the decision, or a fallback."""
        answers = [attempt.tier for attempt in self.attempts if attempt.outcome == "ok"]
        return answers[-1] if answers else None

    @property
    def fallback_reason(self) -> str | None:
        """The reason why the first model did not answer, or None if it did."""
        return self.attempts[0].reason if self.attempts else None

    def to_json(self, response: Any) -> dict[str, Any]:
        """Return the response_json for llm's log; `response` is that of the inner model."""
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
        if self.private:
            record["private"] = True
        if self.place:
            record["place"] = self.place
        if self.price:
            record["price"] = self.price.to_json()
        if self.rollout:
            record["rollout"] = asdict(self.rollout)
        if self.rules:
            record["rules"] = list(self.rules)
        if self.stuck:
            record["stuck"] = self.stuck
        if self.switch:
            record["switch"] = asdict(self.switch)
        if self.overruled:
            record["overruled"] = asdict(self.overruled)
        return {RECORD: record, RESPONSE: response}

    @classmethod
    def from_json(cls, response_json: Any) -> Record | None:
        """Return the record in the parsed response_json of a turn, or None if there is none.

        A field of the wrong type is read as unknown, so that a damaged value hides nothing else.
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
            private=record.get("private") is True,
            place=_place(record.get("place")),
            price=ConfigPrice.from_json(record.get("price")),
            rollout=_rollout(record.get("rollout")),
            rules=_texts(record.get("rules")),
            stuck=_text(record.get("stuck")),
            switch=_switch(record.get("switch")),
            overruled=_overruled(record.get("overruled")),
        )


def inner_response(response_json: Any) -> Any:
    """Return the inner model's own response_json; for a response of another model, all of it."""
    if isinstance(response_json, dict) and RECORD in response_json:
        return response_json.get(RESPONSE)
    return response_json


def repeatable_key(response_json: Any) -> str | None:
    """Return the cache key of an answer that did not come from the cache itself, or None.

    It reads only these two fields of the record, because the index of the cache reads every turn.
    """
    record = response_json.get(RECORD) if isinstance(response_json, dict) else None
    if not isinstance(record, dict) or record.get("cached_from") is not None:
        return None
    return _text(record.get(_JSON_NAMES["cache_key"]))


def json_path(field: str, *more: str) -> str:
    """Return the path of a field of the record for SQLite's JSON functions: `$.tiered.tier`."""
    return ".".join(["$", RECORD, _JSON_NAMES.get(field, field), *more])


def sql(field: str, *more: str, column: str = "response_json") -> str:
    """Return an SQL expression for a field of the record in a column; null in a damaged row."""
    return sql_at(json_path(field, *more), column=column)


def sql_at(*paths: str, column: str = "response_json") -> str:
    """Return an SQL expression for the value at a path of response_json; null in a damaged row.

    The values at several paths are one JSON array. Without the check, `json_extract` would end the
    whole query at the first row whose JSON is broken.
    """
    arguments = ", ".join(f"'{path}'" for path in paths)
    return f"case when json_valid({column}) then json_extract({column}, {arguments}) end"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        return ()
    return tuple(value for value in values if isinstance(value, str))


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _source(value: Any) -> Source | None:
    return cast("Source", value) if isinstance(value, str) and value in _SOURCES else None


def _place(value: Any) -> Place | None:
    return value if isinstance(value, str) and value in PLACES else None


def _attempts(values: Any) -> tuple[Attempt, ...]:
    if not isinstance(values, list):
        return ()
    return tuple(attempt for value in values if (attempt := _attempt(value)))


def _attempt(value: Any) -> Attempt | None:
    if not isinstance(value, dict):
        return None
    tier, model, outcome = (_text(value.get(name)) for name in ("tier", "model", "outcome"))
    if not tier or outcome not in _OUTCOMES:
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


def _overruled(value: Any) -> Overruled | None:
    if not isinstance(value, dict):
        return None
    tier, why = _text(value.get("tier")), _text(value.get("why"))
    return None if tier is None or why is None else Overruled(tier, why)


def _switch(value: Any) -> Switch | None:
    if not isinstance(value, dict):
        return None
    origin, target = _text(value.get("origin")), _text(value.get("target"))
    tokens, dollars = _whole_number(value.get("tokens")), value.get("dollars")
    if origin is None or target is None or tokens is None:
        return None
    known = float(dollars) if isinstance(dollars, (int, float)) else None
    return Switch(origin, target, tokens, known, value.get("made") is not False)
