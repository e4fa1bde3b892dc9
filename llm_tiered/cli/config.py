"""`llm tiered config`: where the config file is, the values in force, and its mistakes."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import click

from ..config.settings import load_settings
from ..errors import ConfigError, NotRunning, TieredError
from ..paths import config_path
from ..router.decision import DecisionInput, decide
from ..router.failures import explain
from ..router.inner import inner_options
from ..rules.reach import unreachable
from .lookup import tiered_model
from .output import echo_json, json_option


@click.group("config")
def command() -> None:
    """Create, show or check the config file."""


@command.command()
def path() -> None:
    """Show the path of the config file, whether or not it exists."""
    click.echo(config_path())


@command.command()
@json_option
def show(json_: bool) -> None:
    """Show all current values and where each one comes from."""
    values = in_force()
    if json_:
        echo_json(values)
        return
    for key, entry in values.items():
        click.echo(f"# from {entry['from']}")
        click.echo(_as_yaml({key: entry["value"]}))


@command.command()
def init() -> None:
    """Write a config file with all defaults and comments; an existing file is not changed."""
    target = config_path()
    if target.exists():
        raise ConfigError(f"{target} already exists", fix="edit it, or remove it first")
    text = files("llm_tiered.config").joinpath("example.yaml").read_text("utf-8")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{target} can't be written: {error.strerror}") from None
    click.echo(target)


@command.command()
def check() -> None:
    """Check the config file and the environment; exit with 1 if there is a mistake."""
    settings = load_settings()
    registry = tiered_model().registry
    decide(DecisionInput(), settings)
    mistakes = []
    for tier in settings.tiers:
        try:
            inner_options(registry.get(tier.model_id), tier.options, {})
        except NotRunning as error:
            click.echo(f"tier {tier.name}, model {tier.model}: {error}", err=True)
        except (TieredError, ValueError) as error:
            problem = explain(error)
            fix = f" ({problem.fix})" if problem.fix else ""
            mistakes.append(f"tier {tier.name}, model {tier.model}: {problem.reason}{fix}")
    mistakes += [
        f"rules: {rule.label} never decides: {earlier.label} always matches first"
        for rule, earlier in unreachable(settings.config.rules)
    ]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    target = config_path()
    if target.exists():
        click.echo(f"{target} is valid")
    else:
        click.echo(f"no config file at {target}; using the defaults")


def in_force() -> dict[str, dict[str, Any]]:
    """Return every setting with its value, ready for JSON, and its source."""
    settings = load_settings()
    values = settings.config.model_dump(mode="json")
    values["force_local"] = settings.force_local
    return {
        key: {"value": value, "from": settings.sources.get(key, "default")}
        for key, value in values.items()
    }


def _as_yaml(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).strip()
