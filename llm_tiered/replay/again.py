"""Logged requests, in the order of their conversations → where they would go with other settings.

Only the decision is made again. No model is called, and what becomes of a request after the
decision (caches, budgets, fallbacks) is not replayed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import process_time
from typing import TYPE_CHECKING, Any

from .. import hooks
from ..errors import RequestError, TieredError
from ..estimator import current
from ..log.conversation import PRIVATE, UNKNOWN, past_after
from ..log.record import Attempt, Record
from ..router import stored_options
from ..router.decision import DecisionInput, decide, needs_estimate, rules_may_choose
from ..router.raising import stuck_in
from ..router.switching import settled, switch_of
from ..rules.conditions import TIME_LIMIT
from ..rules.ruling import ruling
from .past_request import CannotReplay, Estimation, PastRequest, time_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from ..config.settings import Settings
    from ..config.terms import Kept
    from ..log.conversation import Past
    from ..log.turns import TurnWithPrompt
    from ..router.decision import Decision
    from ..router.raising import Stuck

# Requests after which a pattern that takes too long ends the replay.
MOST_SLOW = 20

NO_RECORD = "the log has no record of how it was routed"


@dataclass(frozen=True)
class Replayed:
    """A request and where it would go; `why_not` says why that can't be told.

    `model` is the one that its tier had, or None if the log does not say. `moves` is whether it
    would go to another tier or model, and `moves_now` whether it would with the present settings.
    """

    request: PastRequest
    record: Record
    model: str | None = None
    decision: Decision | None = None
    why_not: str | None = None
    moves: bool = False
    moves_now: bool = False


@dataclass
class _Course:
    """A conversation as it goes with some settings."""

    settings: Settings
    past: Past | None = None
    records: list[Record] = field(default_factory=list)
    last_asked: datetime | None = None

    @property
    def rules(self) -> frozenset[str]:
        return frozenset([name for record in self.records for name in record.rules])

    def add(self, record: Record, when: datetime | None) -> None:
        self.past = past_after(self.past, record)
        self.records.append(record)
        self.last_asked = when

    def settled(self, decision: Decision, said: DecisionInput, request: PastRequest) -> Decision:
        """The decision that holds, as leaving the tier of the conversation may cost too much."""
        if said.past.tier in (None, decision.tier) or not request.turn.messages:
            return decision
        switch = switch_of(
            decision,
            said,
            self.settings,
            request.turn.messages,
            self.last_asked,
            self.records[-1].answered_by,
            request.when,
        )
        return settled(decision, switch, said, self.settings)[0]

    def stuck(self, request: PastRequest) -> Stuck | None:
        """How the model is stuck in a tool loop, or None."""
        if not self.settings.config.escalate_stuck:
            return None
        loop = request.loop
        return stuck_in(loop, self.records[::-1]) if loop.stuck or loop.stuck_before else None


class Replay:
    """The replay of requests with other settings, beside one with the present settings.

    `names` has the ids of models by all names that they may have in a config, and `model` is
    `tiered` itself.
    """

    def __init__(
        self,
        settings: Settings,
        present: Settings,
        names: Mapping[str, str],
        model: Any,
        *,
        ask_plugins: bool = False,
    ) -> None:
        self._all_settings = [settings] if settings == present else [settings, present]
        self._names = names
        self._estimation = Estimation(model, current(), hooks.estimating_plugins(), ask_plugins)
        self._places: dict[tuple[Any, ...], Kept | None] = {}
        self._slow = 0

    def model_id(self, name: str) -> str:
        """Return the id of a model, by a name that the config may have for it."""
        return self._names.get(name, name)

    def run(self, turns: Iterable[TurnWithPrompt]) -> Iterator[Replayed]:
        """Yield what becomes of each request in the period.

        The turns are whole conversations, one after the other. A request that can't be replayed
        counts for its conversation as it is in the log.
        """
        thread = None
        courses: list[_Course] = []
        fragments: list[str] = []
        for turn in turns:
            if turn.thread != thread:
                thread, fragments = turn.thread, []
                courses = [_Course(settings) for settings in self._all_settings]
            if turn.model == "tiered":
                replayed = self._replayed(turn, courses, fragments)
                if turn.counted:
                    yield replayed
            else:
                for course in courses:
                    course.add(Record(), time_of(turn))
            fragments += turn.fragments

    def _replayed(
        self, turn: TurnWithPrompt, courses: list[_Course], fragments: list[str]
    ) -> Replayed:
        request = PastRequest(turn, self._estimation)
        record = turn.record
        if record is None or record.tier is None:
            for course in courses:
                course.add(record or PRIVATE, request.when)
            return Replayed(request, record or PRIVATE, why_not=NO_RECORD)
        model = self._decided_model(record)
        decisions: list[Decision | None] = []
        why_not = None
        for course in courses:
            try:
                decision = self._decide(request, course, fragments)
            except CannotReplay as error:
                why_not = why_not or str(error)
                decisions.append(None)
                course.add(record, request.when)
            else:
                decisions.append(decision)
                course.add(_as_record(decision, record), request.when)
        moves = [bool(each and self._moves(record, model, each)) for each in decisions]
        return Replayed(
            request,
            record,
            model,
            decisions[0],
            why_not if decisions[0] is None else None,
            moves[0],
            moves[-1],
        )

    def _with_rules(
        self,
        said: DecisionInput,
        request: PastRequest,
        course: _Course,
        fragments: list[str],
        templates: Iterable[str] = (),
    ) -> DecisionInput:
        """Add what the rules say. Raises CannotReplay, and TieredError if they take hours."""
        rules = course.settings.config.rules
        if not rules:
            return said
        facts = request.facts(rules, fragments, tuple(templates))
        choose = rules_may_choose(said, course.settings)
        earlier = course.rules if any(rule.forbid for rule in rules) else ()
        # The time of this process alone, which does not depend on what else the machine does.
        started = process_time()
        says = ruling(rules, facts, choose=choose, earlier=earlier)
        if process_time() - started > TIME_LIMIT:
            self._slow += 1
            if self._slow >= MOST_SLOW:
                raise TieredError(
                    f"for {MOST_SLOW} requests a regex of the rules took longer than "
                    f"{TIME_LIMIT} s, so that the replay could take hours",
                    fix="llm tiered rules test",
                )
            raise CannotReplay("a regex of the rules takes too long on it")
        return replace(said, ruling=says)

    def _kept(self, options: Any) -> Kept | None:
        # What the user has stored is read from a file.
        key = tuple(getattr(options, name) for name in stored_options.OPTIONS)
        if key not in self._places:
            self._places[key] = stored_options.kept(options)
        return self._places[key]

    def _decided_model(self, record: Record) -> str | None:
        first = record.attempts[0] if record.attempts else None
        return self.model_id(first.model) if first and first.tier == record.tier else None

    def _moves(self, record: Record, model: str | None, decision: Decision) -> bool:
        other = model is not None and self.model_id(decision.model) != model
        return decision.tier != record.tier or other

    def _decide(self, request: PastRequest, course: _Course, fragments: list[str]) -> Decision:
        """Decide as `TieredRequest` does. Raises CannotReplay, and ConfigError."""
        settings = course.settings
        said = DecisionInput(
            **request.said,
            kept=self._kept(request.options),
            past=course.past or UNKNOWN,
            text=request.text if settings.config.rollout else "",
        )
        if request.has_tool_results:
            said = replace(said, has_tool_results=True, stuck=course.stuck(request))
        decision = _decided(self._with_rules(said, request, course, fragments), request, course)
        templates = [name for rule in settings.config.rules for name in rule.template]
        if templates:
            # A name that is a pattern matches itself: now all conditions on templates hold.
            other = self._with_rules(said, request, course, fragments, templates)
            if _differ(decision, _decided(other, request, course)):
                raise CannotReplay(
                    "it depends on the name of its template, which the log does not keep"
                )
        return decision


def _decided(said: DecisionInput, request: PastRequest, course: _Course) -> Decision:
    settings = course.settings
    if needs_estimate(said, settings):
        said = replace(said, estimate=request.estimate)
    try:
        return course.settled(decide(said, settings), said, request)
    except RequestError as error:
        raise CannotReplay(f"it would be refused: {error.message}") from None


def _differ(one: Decision, other: Decision) -> bool:
    return (one.tier, one.kept, one.forbidden) != (
        other.tier,
        other.kept,
        other.forbidden,
    )


def _as_record(decision: Decision, logged: Record) -> Record:
    """What a later turn would find in the log, if the decided tier answers as far as is known."""
    answered = Attempt(decision.tier, decision.model, "ok", None, 0)
    return Record(
        tier=decision.tier,
        complexity=decision.complexity,
        source=decision.source,
        task=decision.task,
        attempts=logged.attempts if decision.tier == logged.tier else (answered,),
        stuck=decision.stuck,
        local_only=decision.keep_local,
        private=decision.kept == "own",
        rules=decision.rules,
    )
