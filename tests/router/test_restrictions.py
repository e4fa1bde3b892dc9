"""No combination of options, settings and rules leads where a rule says a prompt must not go."""

from __future__ import annotations

from itertools import product
from typing import Any

from llm_tiered.config.rules import parse
from llm_tiered.config.sections import Config
from llm_tiered.config.settings import Settings
from llm_tiered.log.conversation import UNKNOWN, Past
from llm_tiered.router.candidates import ladder, order
from llm_tiered.router.decision import DecisionInput, decide
from llm_tiered.rules.conditions import RuleFacts
from llm_tiered.rules.ruling import ruling

RESTRICTIONS: list[list[dict[str, Any]]] = [
    [{"place": "here"}],
    [{"forbid": "small"}],
    [{"forbid": ["medium", "cloud"]}],
    [{"forbid": ["small", "medium", "cloud"]}],
    [{"complexity": 9}, {"place": "here"}, {"forbid": "medium"}],
    [{"tier": "cloud"}, {"forbid": "cloud"}],
]
REQUESTS: list[dict[str, Any]] = [
    {},
    *({"tier": name} for name in ("small", "medium", "cloud", "embedded")),
    *({"complexity": number} for number in (1, 6, 9)),
    {"complexity": 9, "kept": "here"},
    {"task": "curriculum_planning", "fallback": "none"},
    {"tier": "cloud", "fallback": "local"},
]
PASTS = (UNKNOWN, Past("cloud", 9, "option"), Past("small", 2, "rule", kept="here"))
ROLLOUTS: tuple[dict[str, Any], ...] = ({}, {"small": "0%", "medium": "0%"})


def test_restrictions_hold() -> None:
    """Neither the decision nor any candidate, on the way up too, is one that a rule excludes."""
    wrong = []
    for given, said, past, force_local, rollout in product(
        RESTRICTIONS, REQUESTS, PASTS, (None, True, False), ROLLOUTS
    ):
        settings = Settings(
            Config.model_validate({"rules": given, "rollout": rollout}), force_local
        )
        rules = ruling(parse(given), RuleFacts("Hello"))
        decision = decide(DecisionInput(past=past, ruling=rules, **said), settings)
        candidates = [*order(decision, settings), *ladder(decision, settings)]
        forbidden = {*rules.forbidden}
        stays = rules.stays_here or said.get("kept") or past.kept or force_local
        if (
            decision.tier in forbidden
            or not candidates
            or candidates[0].model != decision.model
            or forbidden & {candidate.tier for candidate in candidates}
            or (stays and not all(candidate.place == "here" for candidate in candidates))
        ):
            wrong.append((given, said, past, force_local, rollout, decision))
    assert wrong == []
