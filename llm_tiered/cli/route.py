"""`llm tiered route`: where a prompt would go, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import llm

from ..mlx.models import MlxModel
from ..mlx.weights import store
from ..router.request import TieredRequest
from .lookup import tiered_model
from .options import read_options, read_schema, schema_option, tiered_option
from .output import echo_json, echo_table, json_option

if TYPE_CHECKING:
    from ..router.candidates import Candidate
    from ..router.model import TieredModel


@click.command("route")
@click.argument("prompt", required=False)
@click.option("-s", "--system", help="System prompt")
@tiered_option
@schema_option
@click.option(
    "attachments",
    "-a",
    "--attachment",
    type=click.Path(exists=True, dir_okay=False),
    multiple=True,
    help="File to attach",
)
@click.option("tools", "-T", "--tool", multiple=True, help="Tool that the model may call")
@click.option("functions", "--functions", multiple=True, help="The same, as Python code or a file")
@click.option("api_key", "--key", help="API key for the cloud, or the name of a stored one")
@json_option
def command(  # noqa: PLR0913, PLR0917 - the options of `llm prompt` that the decision depends on
    prompt: str | None,
    system: str | None,
    options: tuple[tuple[str, str], ...],
    schema: str | None,
    attachments: tuple[str, ...],
    tools: tuple[str, ...],
    functions: tuple[str, ...],
    api_key: str | None,
    json_: bool,
) -> None:
    """Show where a prompt would go and why, without calling a model."""
    from llm.cli import _gather_tools

    model = tiered_model()
    outer = llm.Prompt(
        prompt or "",
        model=model,
        system=system,
        schema=read_schema(schema),
        attachments=[llm.Attachment(path=path) for path in attachments],
        tools=_gather_tools(list(tools), list(functions), model=model),
        options=model.Options(**read_options(model, options)),
    )
    request = TieredRequest(outer, None, api_key)
    chain = [_step(request, model, candidate) for candidate in request.candidates]
    decision = request.decision
    if json_:
        facts = {
            "tier": decision.tier,
            "model": decision.model,
            "complexity": decision.complexity,
            "source": decision.source,
            "task": decision.task,
            "reason": decision.reason,
        }
        echo_json(facts | {"chain": chain})
        return
    click.echo(f"{decision.tier}: {decision.reason}")
    echo_table([[*step.values()] for step in chain], ["tier", "model", "", "why"])


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
        "outcome": "skipped" if problem else "ready",
        "reason": reason,
    }
