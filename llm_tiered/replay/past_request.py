"""A logged request as a decision sees it: what it says, its prompt, its estimate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import NoneType, SimpleNamespace
from typing import TYPE_CHECKING, Any, get_args

import llm
from llm.parts import AttachmentPart

from .. import instructions
from ..config.terms import HIGHEST, LOWEST, Fallback
from ..log.database import parse_time
from ..router.estimation import estimate_of
from ..router.facts import Circumstances, facts_in
from ..router.inner import last_user_text
from ..router.loops import tool_loop
from ..router.options import TieredOptions
from ..router.stored_options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ..config.rules import Rule
    from ..estimator import Estimate
    from ..estimator.model import Coefficients
    from ..log.turns import TurnWithPrompt
    from ..router.loops import ToolLoop
    from ..rules.conditions import RuleFacts

# Reasons why a request can't be replayed.
NO_TEXT = "the log no longer has its messages"
DAMAGED = "its options in the log are damaged"
DAMAGED_TIME = "its time in the log is damaged"


class CannotReplay(Exception):
    """Why a request can't be replayed, in words that it has in common with others."""


@dataclass(frozen=True)
class Estimation:
    """How requests are estimated: with these coefficients, unless one of the plugins does it.

    They are only asked with `ask_plugins`. `model` is `tiered`, to which all prompts go.
    """

    model: Any
    coefficients: Coefficients
    plugins: Sequence[str]
    ask_plugins: bool


class PastRequest:
    """A request of the log; its text is only looked at if something asks for it."""

    def __init__(self, turn: TurnWithPrompt, estimation: Estimation) -> None:
        self.turn = turn
        self._estimation = estimation
        self._facts: dict[Any, RuleFacts] = {}

    @property
    def said(self) -> dict[str, Any]:
        """What its options say about where it goes, ready for `DecisionInput`."""
        options: Mapping[str, Any] = {} if self.turn.options is None else self.turn.options
        said = {name: options.get(name) for name in ("complexity", "task", "tier", "fallback")}
        level, fallback = said["complexity"], said["fallback"]
        valid = level is None or (type(level) is int and LOWEST <= level <= HIGHEST)
        texts = all(isinstance(said[name], (str, NoneType)) for name in ("task", "tier"))
        private = all(isinstance(options.get(name), (bool, NoneType)) for name in OPTIONS)
        if self.turn.options is None or not (valid and texts and private):
            raise CannotReplay(DAMAGED)
        return said | {"fallback": fallback if fallback in get_args(Fallback) else None}

    @cached_property
    def options(self) -> Any:
        """Its options; those that it did not give are None."""
        known = dict.fromkeys(TieredOptions.model_fields)
        return SimpleNamespace(**{**known, **(self.turn.options or {})})

    @cached_property
    def prompt(self) -> llm.Prompt:
        """The prompt; its schema and tools are those that it came with. Raises CannotReplay."""
        turn = self.turn
        if not turn.messages:
            raise CannotReplay(NO_TEXT)
        return llm.Prompt(
            None,
            model=self._estimation.model,
            messages=turn.messages,
            attachments=[
                part.attachment
                for message in self._newest
                for part in message.parts
                if isinstance(part, AttachmentPart)
            ],
            tools=[llm.Tool(name=name) for name in turn.tools],
            schema=turn.schema,
            options=self.options,
        )

    @cached_property
    def when(self) -> datetime | None:
        """When it was made, or None if that is damaged."""
        return time_of(self.turn)

    @property
    def text(self) -> str:
        """The user's last message."""
        return last_user_text(self.prompt)

    @property
    def has_tool_results(self) -> bool:
        """Whether it brings what tools returned. Raises CannotReplay."""
        if self.turn.tools and not self.turn.messages:
            raise CannotReplay(NO_TEXT)
        return any(message.role == "tool" for message in self._newest)

    @cached_property
    def loop(self) -> ToolLoop:
        """What the model has done since the user's last message. Raises CannotReplay."""
        return tool_loop(instructions.as_sent(self.prompt))

    @cached_property
    def estimate(self) -> Estimate:
        """The estimate of its complexity as it would be today. Raises CannotReplay."""
        by = self._estimation
        if by.plugins and not by.ask_plugins:
            names = ", ".join(by.plugins)
            raise CannotReplay(f"{names} may estimate it, which only --ask-plugins asks")
        return estimate_of(self.prompt, ask_plugins=by.ask_plugins, coefficients=by.coefficients)

    def facts(
        self, rules: Sequence[Rule], earlier_fragments: Sequence[str], templates: tuple[str, ...]
    ) -> RuleFacts:
        """Return what rules can know about it. Raises CannotReplay."""
        # Other rules may ask for more; apart from that, what they know of the text is shared.
        key = (templates, any("attachments" in rule.on_request for rule in rules))
        if key not in self._facts:
            fragments = self.turn.fragments
            if self.when is None:
                raise CannotReplay(DAMAGED_TIME)
            circumstances = Circumstances(
                self.when.astimezone().time(),
                fragments,
                (*earlier_fragments, *fragments),
                templates,
            )
            self._facts[key] = facts_in(self.prompt, circumstances, rules)
        return self._facts[key]

    @property
    def _newest(self) -> list[llm.Message]:
        """The messages after the last answer."""
        messages = list(self.turn.messages or ())
        start = len(messages)
        while start and messages[start - 1].role != "assistant":
            start -= 1
        return messages[start:]


def time_of(turn: TurnWithPrompt) -> datetime | None:
    """Return when a turn was begun, or None if that is damaged."""
    try:
        return parse_time(turn.when)
    except (ValueError, TypeError):
        return None
