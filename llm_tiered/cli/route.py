"""`llm tiered route`: where a prompt would go, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..mlx.models import MlxModel
from ..mlx.weights import store
from ..router.request import TieredRequest
from .lookup import tiered_model
from .output import echo_json, echo_table, json_option
from .prompts import prompt_options, read_prompt

if TYPE_CHECKING:
    from ..router.candidates import Candidate
    from ..router.decision import Decision
    from ..router.model import TieredModel


@click.command("route")
@prompt_options
@click.option("api_key", "--key", help="API key for the cloud, or the name of a stored one")
@json_option
def command(api_key: str | None, json_: bool, **prompt: Any) -> None:
    """Show where a prompt would go and why, without calling a model."""
    model = tiered_model()
    request = TieredRequest(read_prompt(model, **prompt), None, api_key)
    chain = [_step(request, model, candidate) for candidate in request.candidates]
    decision = request.decision
    if json_:
        echo_json(facts_of_decision(decision) | {"chain": chain})
        return
    click.echo(f"{decision.tier}: {decision.reason}")
    echo_table([[*step.values()] for step in chain], ["tier", "model", "place", "", "why"])


def facts_of_decision(decision: Decision) -> dict[str, Any]:
    """Return what commands tell of a decision as JSON."""
    facts = {
        "tier": decision.tier,
        "model": decision.model,
        "complexity": decision.complexity,
        "source": decision.source,
        "task": decision.task,
        "reason": decision.reason,
    }
    return facts | ({"rules": list(decision.rules)} if decision.rules else {})


def _step(request: TieredRequest, model: TieredModel, candidate: Candidate) -> dict[str, Any]:
    problem = request.known_problem(candidate, model.registry.get)
    reason: str | None = None
    if problem:
        reason = f"{problem.reason} → {problem.fix}" if problem.fix else problem.reason
    else:
        inner = model.registry.get(candidate.model)
        if isinstance(inner, MlxModel) and store.locate(inner.spec) is None:
            reason = "has to be downloaded first"
    return {
        "tier": candidate.tier,
        "model": candidate.model,
        "place": candidate.place,
        "outcome": "skipped" if problem else "ready",
        "reason": reason,
    }
