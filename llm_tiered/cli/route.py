"""`llm tiered route`: where a prompt would go, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import llm
from pydantic import ValidationError

from ..errors import RequestError
from ..mlx.models import MlxModel
from ..mlx.weights import store
from ..router.request import TieredRequest
from .lookup import tiered_model
from .output import echo_json, echo_table, json_option

if TYPE_CHECKING:
    from ..router.candidates import Candidate
    from ..router.model import TieredModel


@click.command("route")
@click.argument("prompt", required=False)
@click.option("-s", "--system", help="System prompt to use")
@click.option(
    "options", "-o", "--option", type=(str, str), multiple=True, help="Options of `tiered`"
)
@click.option("schema", "--schema", help="JSON schema, or llm's concise form of one")
@click.option(
    "attachments",
    "-a",
    "--attachment",
    type=click.Path(exists=True, dir_okay=False),
    multiple=True,
    help="Attachment path",
)
@click.option("--key", help="API key to use")
@json_option
def command(  # noqa: PLR0913, PLR0917 - the options of `llm prompt` that matter for the way
    prompt: str | None,
    system: str | None,
    options: tuple[tuple[str, str], ...],
    schema: str | None,
    attachments: tuple[str, ...],
    key: str | None,
    json_: bool,
) -> None:
    """Show where a prompt would go and why, without calling a model."""
    model = tiered_model()
    request = llm.Prompt(
        prompt or "",
        model=model,
        system=system,
        schema=_schema(schema),
        attachments=[llm.Attachment(path=path) for path in attachments],
        options=_options(model, dict(options)),
    )
    routed = TieredRequest(request, None, key)
    steps = [_step(routed, model, candidate) for candidate in routed.candidates]
    decision = routed.decision
    if json_:
        facts = {
            "tier": decision.tier,
            "model": decision.model,
            "complexity": decision.complexity,
            "source": decision.source,
            "task": decision.task,
            "reason": decision.reason,
        }
        echo_json(facts | {"chain": steps})
        return
    click.echo(f"{decision.tier}: {decision.reason}")
    echo_table([[*step.values()] for step in steps], ["tier", "model", "", "why"])


def _options(model: TieredModel, given: dict[str, str]) -> llm.Options:
    """The options as `llm prompt` reads them: those given, then those stored for the model."""
    from llm.cli import get_model_options, render_errors

    try:
        return model.Options(**(get_model_options(model.model_id) | given))
    except ValidationError as error:
        raise click.ClickException(render_errors(error.errors())) from None


def _schema(text: str | None) -> dict[str, Any] | None:
    import json

    if not text:
        return None
    try:
        schema = json.loads(text)
    except ValueError:
        try:
            schema = llm.schema_dsl(text)
        except ValueError as error:
            raise RequestError(f"no schema: {error}") from None
    if not isinstance(schema, dict):
        raise RequestError(f"no schema: found {text}, expected a JSON object")
    return schema


def _step(routed: TieredRequest, model: TieredModel, candidate: Candidate) -> dict[str, Any]:
    problem = routed.known_problem(candidate, model.registry.get)
    reason: str | None = None
    if problem:
        reason = f"{problem.reason} → {problem.fix}" if problem.fix else problem.reason
    else:
        inner = model.registry.get(candidate.model)
        if isinstance(inner, MlxModel) and store.locate(inner.spec) is None:
            reason = "to be downloaded first"
    return {
        "tier": candidate.tier,
        "model": candidate.model,
        "outcome": "skipped" if problem else "ready",
        "reason": reason,
    }
