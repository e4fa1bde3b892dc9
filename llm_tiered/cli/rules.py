"""`llm tiered rules`: which rule of the config decides for a prompt, and why the others do not."""

from __future__ import annotations

from typing import Any

import click

from ..paths import config_path
from ..router.request import TieredRequest
from .lookup import tiered_model
from .output import echo_json, echo_table, json_option
from .prompts import prompt_options, read_prompt
from .route import facts_of_decision


@click.group("rules")
def command() -> None:
    """Show which rules of the config match a prompt, and why the others do not."""


@command.command()
@prompt_options
@json_option
def test(json_: bool, **prompt: Any) -> None:
    """Show which rule decides for a prompt and why the others do not, without calling a model."""
    request = TieredRequest(read_prompt(tiered_model(), **prompt), None, None)
    decision, outcomes = request.decision, request.explain_rules()
    if json_:
        rules = [outcome._asdict() for outcome in outcomes]
        echo_json(facts_of_decision(decision) | {"rules": rules})
        return
    click.echo(f"{decision.tier}: {decision.reason}")
    if outcomes:
        echo_table(outcomes, ["rule", "", "why"])
    else:
        click.echo(f"there are no rules in {config_path()}")
