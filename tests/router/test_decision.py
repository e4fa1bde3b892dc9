"""Where a request goes, and why."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any, cast

import pytest

from llm_tiered.config.sections import DEFAULT_TASKS, Config
from llm_tiered.config.settings import Settings
from llm_tiered.errors import ConfigError, RequestError
from llm_tiered.estimator import Estimate
from llm_tiered.log.conversation import Past
from llm_tiered.mlx.catalog import EMBEDDED
from llm_tiered.router.decision import EMBEDDED_TIER, Decision, DecisionInput, decide

PHI, QWEN = "mlx/Phi-3.5-mini-instruct-4bit", "mlx/Qwen2.5-7B-Instruct-4bit"
GEMINI = "gemini/gemini-flash-latest"
MODELS = {"small": PHI, "medium": QWEN, "cloud": GEMINI}

SCALE = ["small"] * 4 + ["medium"] * 3 + ["cloud"] * 3

ALL_LOCAL = [{"name": "only", "complexity": "1-10", "model": PHI}]
ALL_CLOUD = [{"name": "only", "complexity": "1-10", "model": GEMINI}]


def _settings(force_local: bool | None = None, **config: Any) -> Settings:
    return Settings(Config.model_validate(config), force_local)


def _forced(tier: str, force_local: bool | None) -> str:
    """Where a request for the tier goes under FORCE_LOCAL_LLM."""
    if force_local is False:
        return "cloud"
    return "medium" if force_local and tier == "cloud" else tier


# The scale


def test_complexity() -> None:
    """Each complexity goes to the tier that covers it, or where FORCE_LOCAL_LLM sends it."""
    wrong = []
    for force_local, (complexity, tier) in product((None, True, False), enumerate(SCALE, start=1)):
        decision = decide(DecisionInput(complexity=complexity), _settings(force_local))
        expected = _forced(tier, force_local)
        facts = (decision.tier, decision.model, decision.complexity, decision.source)
        told = f"complexity {complexity}" in decision.reason
        if facts != (expected, MODELS[expected], complexity, "option") or not told:
            wrong.append((force_local, complexity, decision))
    assert wrong == []


@pytest.mark.parametrize("force_local", [None, True, False])
def test_task(force_local: bool | None) -> None:
    """Each task goes where its complexity belongs, or where FORCE_LOCAL_LLM sends it."""
    tasks = {
        "small": "content_validation exercise_generation progression_generation",
        "medium": "theory_analysis voicing_generation creative_generation tutorial_generation",
        "cloud": "curriculum_planning",
    }
    for task, tier in [(task, name) for name in tasks for task in tasks[name].split()]:
        decision = decide(DecisionInput(task=task), _settings(force_local))
        assert decision.tier == _forced(tier, force_local), task
        assert (decision.complexity, decision.source) == (DEFAULT_TASKS[task].complexity, "task")
        assert decision.task == task
        assert task in decision.reason


@pytest.mark.parametrize("tier", MODELS)
@pytest.mark.parametrize("force_local", [None, True, False])
def test_tier(tier: str, force_local: bool | None) -> None:
    """A tier that is requested by name is used, or the one that FORCE_LOCAL_LLM imposes."""
    decision = decide(DecisionInput(tier=tier), _settings(force_local))
    assert decision.tier == _forced(tier, force_local)
    assert (decision.complexity, decision.source) == (None, "tier")


def test_users_task() -> None:
    """A task that the config defines works like a built-in one."""
    decision = decide(DecisionInput(task="haiku"), _settings(tasks={"haiku": 9}))
    assert (decision.tier, decision.complexity) == ("cloud", 9)


# What wins

EVERYTHING = {
    "tier": "cloud",
    "complexity": 2,
    "task": "theory_analysis",
    "past": Past(tier="cloud", complexity=9, source="option"),
    "estimate": Estimate(score=0.7, complexity=6, confidence=0.8, reasons=("formulas",)),
}


@pytest.mark.parametrize(
    ("given", "source", "tier", "complexity"),
    [
        (["tier", "complexity", "task", "past"], "tier", "cloud", 2),
        (["tier", "task", "past"], "tier", "cloud", None),
        (["complexity", "task", "past"], "option", "small", 2),
        (["task", "past"], "task", "medium", 5),
        (["past"], "conversation", "cloud", 9),
        (["past", "estimate"], "conversation", "cloud", 9),
        (["estimate"], "estimate", "medium", 6),
        ([], "default", "small", 3),
    ],
)
def test_precedence(given: list[str], source: str, tier: str, complexity: int | None) -> None:
    """The tier overrides the complexity, then come the task, the conversation and the estimate."""
    request = DecisionInput(**{name: EVERYTHING[name] for name in given})  # type: ignore[arg-type]  # a mix
    decision = decide(request, _settings(default_complexity=3))
    assert (decision.source, decision.tier, decision.complexity) == (source, tier, complexity)
    assert decision.task == request.task


def test_what_is_known_of_a_conversation() -> None:
    """A conversation's tier is enough to stay with it; its complexity alone is not."""
    decision = decide(DecisionInput(past=Past(tier="cloud")), _settings(default_complexity=3))
    assert (decision.source, decision.tier, decision.complexity) == ("conversation", "cloud", None)
    decision = decide(DecisionInput(past=Past(complexity=9)), _settings(default_complexity=3))
    assert (decision.source, decision.tier, decision.complexity) == ("default", "small", 3)
    past = Past(tier="cloud", source="option")
    request = DecisionInput(past=past, estimate=_estimated(6))
    decision = decide(request, _settings(default_complexity=3))
    assert (decision.source, decision.tier, decision.complexity) == ("conversation", "cloud", None)


def _estimated(complexity: int) -> Estimate:
    return Estimate(complexity / 10, complexity, 0.8, ("formulas", "code"))


def test_estimate_is_explained() -> None:
    """The reason for an estimate names what mattered."""
    decision = decide(DecisionInput(estimate=_estimated(9)), _settings())
    assert decision.tier == "cloud"
    assert decision.reason == "estimated complexity 9 (formulas, code), and cloud covers 8-10"


def test_conversation_follows_its_estimates() -> None:
    """An estimated conversation goes wherever the estimate of its next turn leads."""
    wrong = []
    for before, (complexity, tier) in product((1, 6, 10), enumerate(SCALE, start=1)):
        request = DecisionInput(
            past=Past(tier=SCALE[before - 1], complexity=before, source="estimate"),
            estimate=_estimated(complexity),
        )
        decision = decide(request, _settings())
        expected = (tier, complexity, "estimate")
        if (decision.tier, decision.complexity, decision.source) != expected:
            wrong.append((before, decision))
    assert wrong == []


def test_estimated_conversation_stays_where_a_rollout_put_it() -> None:
    """While its estimates belong to one tier, a conversation keeps its side of a rollout."""
    decisions = [
        decide(
            DecisionInput(
                past=Past(tier="cloud", complexity=6, source="estimate"),
                estimate=_estimated(5),
                text=f"turn {number}",
            ),
            _settings(rollout={"medium": "50%"}),
        )
        for number in range(20)
    ]
    assert {decision.tier for decision in decisions} == {"cloud"}
    assert "this conversation is on cloud" in decisions[0].reason


@pytest.mark.parametrize(("share", "force_local"), [("0%", True), ("100%", False)])
def test_rollout_that_something_else_overrides(share: str, force_local: bool) -> None:
    """A request that privacy or the rollback redirects counts for neither side of a rollout."""
    request, rollout = DecisionInput(complexity=6), {"medium": share}
    assert decide(request, _settings(rollout=rollout)).rollout is not None
    assert decide(request, _settings(force_local, rollout=rollout)).rollout is None


def test_default_complexity_is_named() -> None:
    """A request without any hint uses the default, and the reason says so."""
    decision = decide(DecisionInput(), _settings())
    assert (decision.tier, decision.complexity) == ("medium", 5)
    assert "default_complexity 5" in decision.reason


def test_conversation_with_a_tier_that_is_gone() -> None:
    """A conversation whose tier was removed from the config starts over with the default."""
    decision = decide(DecisionInput(past=Past(tier="huge", complexity=9)), _settings())
    assert (decision.source, decision.tier, decision.complexity) == ("default", "medium", 5)


def test_conversation_with_the_embedded_model() -> None:
    """A conversation stays with the embedded model only if a turn named it, despite estimates."""
    for past in (Past(tier=EMBEDDED_TIER), Past(tier=EMBEDDED_TIER, source="tier")):
        decision = decide(DecisionInput(past=past, estimate=_estimated(9)), _settings())
        stays = decision.source == "conversation" and decision.model == EMBEDDED.model_id
        assert stays is (past.source == "tier")


@pytest.mark.parametrize(
    ("requested", "configured", "expected"),
    [(None, "any", "any"), (None, "local", "local"), ("none", "any", "none")],
)
def test_fallback(requested: Any, configured: str, expected: str) -> None:
    """The request decides about fallbacks, else the config."""
    decision = decide(DecisionInput(fallback=requested), _settings(fallback=configured))
    assert decision.fallback == expected


def test_empty_tiers_are_passed_over() -> None:
    """A tier that a threshold emptied gets no requests by complexity."""
    settings = _settings()
    empty = settings.tiers[0].model_copy(
        update={"complexity": settings.tiers[0].complexity._replace(high=0)}
    )
    wider = settings.tiers[1].model_copy(
        update={"complexity": settings.tiers[1].complexity._replace(low=1)}
    )
    config = settings.config.model_copy(update={"tiers": (empty, wider, settings.tiers[2])})
    assert decide(DecisionInput(complexity=1), Settings(config)).tier == "medium"


# The embedded model


@pytest.mark.parametrize(
    ("force_local", "tier"), [(None, EMBEDDED_TIER), (True, EMBEDDED_TIER), (False, "cloud")]
)
def test_embedded_model_by_name(force_local: bool | None, tier: str) -> None:
    """The embedded model is asked by its name, where local models may be asked at all."""
    decision = decide(DecisionInput(tier=EMBEDDED_TIER), _settings(force_local))
    assert (decision.tier, decision.source) == (tier, "tier")
    assert decision.model == (EMBEDDED.model_id if tier == EMBEDDED_TIER else GEMINI)


def test_a_tier_of_the_config_takes_the_name() -> None:
    """A tier that the user calls embedded is the one that the name means."""
    settings = _settings(tiers=[ALL_CLOUD[0] | {"name": EMBEDDED_TIER}])
    assert decide(DecisionInput(tier=EMBEDDED_TIER), settings).model == GEMINI


# Unknown names


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (DecisionInput(tier="meduim"), "unknown tier 'meduim': did you mean medium?"),
        (DecisionInput(tier="Cloud"), "unknown tier 'Cloud': did you mean cloud?"),
        (DecisionInput(tier="xyz"), "unknown tier 'xyz': known are small, medium, cloud, embedded"),
        (DecisionInput(tier=""), "unknown tier '': known are small, medium, cloud, embedded"),
        (
            DecisionInput(task="theory_analisis"),
            "unknown task 'theory_analisis': did you mean theory_analysis?",
        ),
        (
            DecisionInput(task="x_generation"),
            "unknown task 'x_generation': did you mean exercise_generation or voicing_generation?",
        ),
        (
            DecisionInput(task="xyz"),
            f"unknown task 'xyz': known are {', '.join(sorted(DEFAULT_TASKS))}",
        ),
        (
            DecisionInput(tier="small", task="theory_analisis"),
            "unknown task 'theory_analisis': did you mean theory_analysis?",
        ),
    ],
)
def test_unknown_name(request_: DecisionInput, message: str) -> None:
    """An unknown tier or task is reported with the nearest names, or with all of them."""
    with pytest.raises(RequestError) as caught:
        decide(request_, _settings())
    assert str(caught.value) == message


# Privacy


def test_privacy_only_tightens() -> None:
    """Request, conversation, config and environment each keep a prompt here; none undoes it."""
    wrong = []
    either, kept = (False, True), cast("tuple[Any, ...]", (None, "here"))
    for tier, before, in_request, in_config, force_local in product(
        MODELS, kept, kept, either, (None, True, False)
    ):
        settings = _settings(force_local, local_only=in_config)
        request = DecisionInput(tier=tier, kept=in_request, past=Past(kept=before))
        decision = decide(request, settings)
        private = bool(before or in_request or in_config or force_local)
        local_model = QWEN if tier == "cloud" else MODELS[tier]
        if (
            decision.keep_local is not private
            or decision.cloud_only is not (force_local is False and not private)
            or (private and decision.model != local_model)
        ):
            wrong.append((request, in_config, force_local, decision))
    assert wrong == []


def test_cloud_tier_that_is_asked_for_stays_here_with_local_only() -> None:
    """Naming the cloud tier does not loosen privacy, and the reason says where it goes instead."""
    decision = decide(DecisionInput(tier="cloud", kept="here"), _settings())
    assert decision.tier == "medium"
    assert decision.reason == (
        "the request names the tier cloud; nothing may leave this machine, so it goes to medium"
    )


def test_rollback_is_named() -> None:
    """The reason names FORCE_LOCAL_LLM=false when it sends a request to the cloud."""
    decision = decide(DecisionInput(complexity=2), _settings(force_local=False))
    rollback = "FORCE_LOCAL_LLM=false, so it goes to cloud"
    assert decision.reason == f"complexity 2, and small covers 1-4; {rollback}"


def test_private_request_without_local_tiers() -> None:
    """With only cloud tiers, a private request goes to the embedded model."""
    decision = decide(DecisionInput(complexity=9, kept="here"), _settings(tiers=ALL_CLOUD))
    assert (decision.tier, decision.model) == (EMBEDDED_TIER, EMBEDDED.model_id)


def test_rollback_without_cloud_tiers() -> None:
    """Sending everything to the cloud without a cloud tier is a config error with its fix."""
    with pytest.raises(ConfigError, match="there is no cloud tier") as caught:
        decide(DecisionInput(complexity=2), _settings(force_local=False, tiers=ALL_LOCAL))
    assert caught.value.fix == "add a tier with a cloud model to the config, or unset the variable"


def test_private_request_without_cloud_tiers_ignores_the_rollback() -> None:
    """With local_only, FORCE_LOCAL_LLM=false does not require a cloud tier."""
    settings = _settings(force_local=False, tiers=ALL_LOCAL, local_only=True)
    assert decide(DecisionInput(complexity=2), settings).tier == "only"


@pytest.mark.parametrize(
    ("complexity", "force_local", "expected"),
    [(9, None, "smart"), (9, False, "smart"), (6, False, "cheap"), (2, False, "cheap")],
)
def test_two_cloud_tiers(complexity: int, force_local: bool | None, expected: str) -> None:
    """The rollback picks the cheapest cloud tier, and leaves cloud requests where they are."""
    tiers = [
        {"name": "small", "complexity": "1-4", "model": PHI},
        {"name": "cheap", "complexity": "5-7", "model": "gemini/lite"},
        {"name": "smart", "complexity": "8-10", "model": "gemini/pro"},
    ]
    settings = _settings(force_local, tiers=tiers)
    assert decide(DecisionInput(complexity=complexity), settings).tier == expected


# Purity

REQUESTS = [
    DecisionInput(complexity, task, tier, kept, fallback, Past(tier=conversation_tier))  # type: ignore[arg-type]  # a mix
    for complexity, task, tier, kept, fallback, conversation_tier in product(
        (None, 1, 5, 10),
        (None, "curriculum_planning"),
        (None, "small", "cloud"),
        (None, "here"),
        (None, "none"),
        (None, "cloud", "gone"),
    )
]
SETTINGS = [
    _settings(force_local, local_only=local_only, default_complexity=default_complexity)
    for force_local, local_only, default_complexity in product(
        (None, True, False), (False, True), (2, 9)
    )
]


def _decisions() -> list[Decision]:
    return [decide(request, settings) for request, settings in product(REQUESTS, SETTINGS)]


def test_same_request_and_settings_give_the_same_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A decision depends only on its two arguments and changes neither."""
    before = copy.deepcopy((REQUESTS, SETTINGS))
    first = _decisions()
    monkeypatch.setenv("FORCE_LOCAL_LLM", "true")
    monkeypatch.setenv("COMPLEXITY_SMALL", "9")
    assert _decisions() == first
    assert before == (REQUESTS, SETTINGS)


def test_every_decision_keeps_the_rules() -> None:
    """Private prompts always get local models, and the model is always the tier's."""
    for decision in _decisions():
        assert MODELS[decision.tier] == decision.model
        assert not (decision.keep_local and decision.cloud_only)
        assert not (decision.keep_local and not decision.model.startswith("mlx/"))
        assert not (decision.cloud_only and decision.model.startswith("mlx/"))
        assert decision.reason
        assert "\n" not in decision.reason
