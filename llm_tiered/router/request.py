"""One request to `tiered`: the settings in force, the decision, and which models may answer."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import llm

from .. import instructions
from ..config.settings import load_settings
from ..config.terms import strictest
from ..endpoints.models import ServerModel
from ..endpoints.options import ServerOptions
from ..errors import ModelUnavailable, RequestError
from ..log.conversation import last_asked, records_of, rules_of
from ..log.threads import past_of
from ..rules.ruling import ruling
from . import checks, stored_options
from .candidates import ladder, order
from .cooldowns import Cooldowns
from .decision import DecisionInput, decide, needs_estimate, rules_may_choose
from .estimation import estimate_of
from .inner import inner_options, last_user_text
from .loops import tool_loop
from .option_names import SAMPLING
from .problem import Problem
from .raising import stuck_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm.models import _BaseConversation, _BaseModel, _BaseResponse

    from ..config.terms import Kept
    from ..log.record import Attempt, Switch
    from ..rules.explain import RuleOutcome
    from ..rules.ruling import Ruling
    from .candidates import Candidate
    from .decision import Decision
    from .keys import RequestKey
    from .raising import Stuck
    from .registry import Registry

COOLDOWNS = Cooldowns()


class TieredRequest:
    """A request to `tiered` after its decision: what applies to it, and what has been tried.

    `candidates` are the models that may answer, best first; `ladder` holds those that a weak
    answer can escalate to, smallest first, and is empty where answers are not checked.
    `attempts` grows as models are tried. Raises RequestError or ConfigError if no decision is
    possible.
    """

    def __init__(
        self, prompt: llm.Prompt, conversation: _BaseConversation | None, api_key: str | None
    ) -> None:
        options: Any = prompt.options
        self.prompt = prompt
        self.conversation = conversation
        self.api_key = api_key
        self.settings = load_settings()
        self.cooldowns = COOLDOWNS
        self.attempts: list[Attempt] = []
        self.requested: dict[str, Any] = {
            name: value for name in SAMPLING if (value := getattr(options, name)) is not None
        } | (options.model_extra or {})
        self.decision, self.switch = self._decide()
        self.candidates: tuple[Candidate, ...] = order(self.decision, self.settings)
        self.escalates = self._escalates()
        self.ladder = ladder(self.decision, self.settings) if self.escalates else ()

    def options(self, candidate: Candidate, inner: _BaseModel) -> llm.Options:
        """The inner model's options for this request. Raises pydantic.ValidationError."""
        options = inner_options(inner, candidate.options, self.requested)
        if self.judges(candidate) and isinstance(options, ServerOptions):
            return options.model_copy(update={"judged": True})
        return options

    def known_problem(
        self, candidate: Candidate, find: Callable[[str], _BaseModel]
    ) -> Problem | None:
        """Why the candidate would be skipped now, a cooldown included, or None."""
        cooling = self.cooldowns.check(candidate.model, self.key_in_use)
        return cooling or self.check(candidate, find) or self._left_alone(candidate)

    def check(self, candidate: Candidate, find: Callable[[str], _BaseModel]) -> Problem | None:
        """Why the candidate is known not to work, or None. `find` looks a model up by name."""
        from .. import hooks

        try:
            inner = find(candidate.model)
            if candidate.in_engine and not getattr(inner, "runs_here", False):
                raise ModelUnavailable("is named like a local model (mlx/…) but is not one")
            options = self.options(candidate, inner)
            if veto := hooks.veto(candidate.tier, candidate.model, self.prompt):
                return Problem(veto)
            checks.check_place(inner, candidate.place)
            checks.check(inner, self.prompt, self.settings.config, self.key_for(inner))
            if candidate.place == "cloud":
                from . import budget

                budget.check(
                    self.settings.config.budget, inner, self.prompt, options, candidate.price
                )
        except (llm.ModelError, ValueError) as error:
            return self.explain(error, candidate)
        return None

    def check_may_block(self, candidate: Candidate) -> bool:
        """Whether the check of a candidate may take a while, for files, a server or a plugin."""
        from .. import hooks

        if candidate.place == "cloud" or checks.has_attachments(self.prompt) or hooks.may_veto():
            return True
        return candidate.in_engine and checks.may_block(self._model(candidate.model))

    def judges(self, candidate: Candidate) -> bool:
        """Whether the candidate's whole answer is checked before any of it is shown."""
        return self.escalates and candidate.place != "cloud"

    def explain(self, error: Exception, candidate: Candidate) -> Problem:
        """What went wrong with a candidate, without any API key in it."""
        from .failures import explain

        problem = explain(error, model=self._model(candidate.model), secrets=self._secrets)
        if problem.cools_down and not problem.refuses_key and self._left_alone(candidate):
            # Its servers come back one by one, by their own checks.
            return replace(problem, cools_down=False)
        return problem

    def _left_alone(self, candidate: Candidate) -> Problem | None:
        """Why none of the candidate's servers is asked now, if it has servers."""
        inner = self._model(candidate.model)
        error = inner.left_alone() if isinstance(inner, ServerModel) else None
        return Problem(error.message, error.fix) if error else None

    def key_for(self, inner: _BaseModel) -> str | None:
        """The key that came with the request if it is meant for this model, else None."""
        return self._key.for_model(inner) if self._key else None

    def key_in_use(self, model_id: str) -> str | None:
        """What tells the key that the model would use for this request from other keys."""
        from .keys import fingerprint

        inner = self._model(model_id)
        return fingerprint(inner, self.key_for(inner)) if inner else None

    @cached_property
    def _key(self) -> RequestKey | None:
        if self.api_key is None:
            return None
        from .keys import request_key

        models = [self._model(candidate.model) for candidate in self.candidates]
        return request_key(self.api_key, models, self._registry.models() if self._registry else ())

    @property
    def _secrets(self) -> list[str]:
        from .keys import known_keys

        return known_keys(self._registry.models() if self._registry else (), self.api_key)

    @property
    def _registry(self) -> Registry | None:
        registry: Registry | None = getattr(self.prompt.model, "registry", None)
        return registry

    def _model(self, model_id: str) -> _BaseModel | None:
        """The sync version of a model, or None if llm does not know it."""
        registry = self._registry
        return registry.get(model_id) if registry and model_id in registry else None

    def _decide(self) -> tuple[Decision, Switch | None]:
        """The decision, and what it costs to leave the tier of the conversation."""
        said = self._decision_input()
        decision = decide(said, self.settings)
        if said.past.tier in (None, decision.tier):
            return decision, None
        from .switching import settled, switch_of

        records = records_of(self.conversation)
        switch = switch_of(
            decision,
            said,
            self.settings,
            self.prompt.messages,
            last_asked(self.conversation),
            records[0].answered_by if records else None,
        )
        return settled(decision, switch, said, self.settings)

    def _decision_input(self) -> DecisionInput:
        options: Any = self.prompt.options
        said = DecisionInput(
            text=last_user_text(self.prompt),
            complexity=options.complexity,
            task=options.task,
            tier=options.tier,
            kept=stored_options.kept(options),
            fallback=options.fallback,
            past=past_of(self.conversation, self.prompt.messages),
            has_tool_results=bool(self.prompt.tool_results),
            stuck=self._stuck(),
        )
        if self.settings.config.rules:
            said = replace(said, ruling=self._ruling(said))
        if needs_estimate(said, self.settings):
            said = replace(said, estimate=estimate_of(self.prompt))
        return said

    def _stuck(self) -> Stuck | None:
        """How the model is stuck in a tool loop, or None."""
        if not self.prompt.tool_results or not self.settings.config.escalate_stuck:
            return None
        loop = tool_loop(instructions.as_sent(self.prompt))
        if not (loop.stuck or loop.stuck_before):
            return None
        return stuck_in(loop, records_of(self.conversation))

    def explain_rules(self) -> list[RuleOutcome]:
        """What became of each rule of the config, and why."""
        from ..rules.explain import explain

        rules = self.settings.config.rules
        return explain(rules, self._facts, choose=self._rules_choose) if rules else []

    def _ruling(self, request: DecisionInput) -> Ruling:
        """What the rules of the config say."""
        from .facts import facts_of

        rules = self.settings.config.rules
        self._facts = facts_of(self.prompt, self.conversation, rules)
        self._rules_choose = rules_may_choose(request, self.settings)
        # What had to stay here stays, whatever the rules are now.
        forbids = any(rule.forbid for rule in rules)
        earlier = rules_of(self.conversation) if forbids else ()
        return ruling(rules, self._facts, choose=self._rules_choose, earlier=earlier)

    def _escalates(self) -> bool:
        """Whether weak answers go a tier up: the request decides, else its task, else its tier."""
        options: Any = self.prompt.options
        task = self.settings.config.tasks.get(self.decision.task or "")
        tier = self.settings.tier(self.decision.tier)
        for choice in (options.escalate, task.escalate if task else None):
            if choice is not None:
                return bool(choice)
        return tier is not None and tier.escalate


def must_stay(prompt: llm.Prompt) -> Kept | None:
    """Return whether a prompt outside any conversation stays on this machine, or on the user's.

    Raises ConfigError.
    """
    from .facts import facts_of

    options: Any = prompt.options
    settings = load_settings()
    rules = settings.config.rules
    keeps = ruling(rules, facts_of(prompt, None, rules), choose=False).keeps if rules else None
    by_rule = keeps.place if keeps else None
    return strictest(stored_options.kept(options), settings.kept, by_rule)


_prepared: WeakKeyDictionary[_BaseResponse, TieredRequest] = WeakKeyDictionary()


def prepare(response: _BaseResponse, api_key: str | None = None) -> TieredRequest:
    """Decide where a response of `tiered` will go, before it is started.

    Running the response uses this decision: estimates and hooks are not asked a second time.
    Raises RequestError or ConfigError.
    """
    key = api_key or response._key
    request = TieredRequest(response.prompt, response.conversation, key)
    _prepared[response] = request
    return request


def request_for(
    response: _BaseResponse,
    prompt: llm.Prompt,
    conversation: _BaseConversation | None,
    api_key: str | None,
) -> TieredRequest:
    """The request that a response was prepared with, or a new one.

    Raises RequestError for an empty prompt or a schema that no answer can be checked against, or as
    TieredRequest does.
    """
    instructions.record(prompt)
    if not instructions.as_sent(prompt):
        raise RequestError("the prompt is empty")
    schema: Any = prompt.schema
    if schema:
        from .. import json_schema

        try:
            json_schema.check(schema)
        except ValueError as error:
            raise RequestError(f"the schema is {error}") from None
    return _prepared.pop(response, None) or TieredRequest(prompt, conversation, api_key)
