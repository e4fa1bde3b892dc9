"""Where a prompt may go: no candidate is ever farther away than what was asked allows."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

from llm_tiered.config.rules import parse
from llm_tiered.config.sections import Config
from llm_tiered.config.settings import Settings
from llm_tiered.config.terms import Fallback
from llm_tiered.log.conversation import Past
from llm_tiered.router.candidates import ladder, order
from llm_tiered.router.decision import DecisionInput, decide
from llm_tiered.rules.conditions import RuleFacts
from llm_tiered.rules.ruling import ruling

SERVER = "http://127.0.0.1:8000/v1"


def _tier(name: str, complexity: str, model: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "complexity": complexity, "model": model} | more


TIERS = [
    _tier("small", "1-2", "mlx/small"),
    _tier("flash", "3-4", "gemini/flash"),
    _tier("box", "5-6", "big", server="http://box:8000/v1", place="own"),
    _tier("desk", "7-8", "other", server=SERVER),
    _tier("pro", "9", "gemini/pro"),
    _tier("rented", "10", "huge", server="https://example.com/v1"),
]
PLACES = {
    **{"small": "here", "flash": "cloud", "box": "own", "desk": "here", "pro": "cloud"},
    **{"rented": "cloud", "embedded": "here"},
}

# The config, the rules that hold for the prompt, and where the conversation had to stay.
CONFIGS: list[dict[str, Any]] = [{}, {"private": True}, {"local_only": True}]
RULES: list[list[dict[str, str]]] = [[], [{"place": "own"}], [{"place": "own"}, {"place": "here"}]]
KEPT: list[Any] = [None, "own", "here"]


def test_nothing_goes_farther_than_was_asked() -> None:
    """The strictest of request, conversation, rules, config and environment holds, always."""
    wrong = []
    rulings = [(rules, ruling(parse(rules), RuleFacts("Hello"))) for rules in RULES]
    for config, (rules, says), kept, past, force_local, fallback, complexity in product(
        CONFIGS, rulings, KEPT, KEPT, (None, True, False), get_args(Fallback), (1, 3, 5, 7, 9, 10)
    ):
        settings = Settings(_config(config), force_local)
        request = DecisionInput(
            complexity=complexity, kept=kept, past=Past(kept=past), fallback=fallback, ruling=says
        )
        decision = decide(request, settings)
        candidates = [*order(decision, settings), *ladder(decision, settings)]
        here = (
            "here" in (kept, past)
            or bool(rules[1:])
            or config.get("local_only")
            or force_local is True
        )
        own = here or "own" in (kept, past) or bool(rules) or config.get("private")
        allowed = {"here"} if here else {"here", "own"} if own else {"here", "own", "cloud"}
        if force_local is False and not own:
            allowed = {"cloud"}
        tiers = [decision.tier, *(candidate.tier for candidate in candidates)]
        places = [PLACES[tier] for tier in tiers]
        if not {*places} <= allowed or [each.place for each in candidates] != places[1:]:
            wrong.append((config, rules, kept, past, force_local, fallback, complexity, tiers))
    assert wrong == []


_configs: dict[str, Config] = {}


def _config(values: dict[str, Any]) -> Config:
    name = str(values)
    if name not in _configs:
        _configs[name] = Config.model_validate({"tiers": TIERS} | values)
    return _configs[name]


def _chain(**said: Any) -> list[str]:
    settings = Settings(_config({}))
    decision = decide(DecisionInput(**said), settings)
    return [candidate.tier for candidate in order(decision, settings)]


def test_the_chain_of_a_tier_on_the_users_machines() -> None:
    """Larger ones on these come first, nearest first, then smaller ones, then the cloud upwards."""
    cloud = ["flash", "pro", "rented", "embedded"]
    assert _chain(complexity=1) == ["small", "box", "desk", *cloud]
    assert _chain(complexity=5) == ["box", "desk", "small", *cloud]
    assert _chain(complexity=7) == ["desk", "box", "small", *cloud]


def test_the_chain_of_a_cloud_tier() -> None:
    """The other cloud tiers come first, upwards, then the user's machines, the largest first."""
    near = ["desk", "box", "small", "embedded"]
    assert _chain(complexity=3) == ["flash", "pro", "rented", *near]
    assert _chain(complexity=9) == ["pro", "rented", "flash", *near]


def test_a_local_fallback_leaves_the_cloud_out() -> None:
    """Other machines of the user's stay allowed, and so does a cloud tier that is asked for."""
    assert _chain(complexity=1, fallback="local") == ["small", "box", "desk", "embedded"]
    assert _chain(complexity=9, fallback="local") == ["pro", "desk", "box", "small", "embedded"]


def test_the_reason_says_whose_machines() -> None:
    """A tier that a prompt may not go to is replaced, and the reason says why."""
    settings = Settings(_config({}))
    decision = decide(DecisionInput(tier="pro", kept="own"), settings)
    assert decision.reason.endswith("nothing may leave your machines, so it goes to desk")
    rules = ruling(parse([{"name": "ours", "place": "own"}]), RuleFacts("Hello"))
    decision = decide(DecisionInput(tier="pro", ruling=rules), settings)
    assert decision.reason.endswith("the rule ours keeps it on your machines, so it goes to desk")
