"""`llm tiered models`: the local models, and the config's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from llm import get_model_aliases

from ..config import edit as config_edit
from ..config.local_models import local_models
from ..config.settings import load_settings
from ..errors import RequestError
from ..mlx.catalog import PREFIX
from ..mlx.models import MlxModel
from ..mlx.weights.inspect import inspect_folder
from ..wording import gigabytes
from .output import echo_json, echo_table, json_option
from .status import file_facts

# Neither part begins with a dot: that is a folder.
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@click.group("models", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """The local models: list, add, remove."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


@command.command("list")
@json_option
def list_(json_: bool = False) -> None:
    """List the local models: those that come with the plugin, and the config's own."""
    own = {model.id for model in load_settings().config.models}
    rows = [
        {
            "model": spec.model_id,
            "aliases": spec.aliases,
            "parameters": spec.parameters,
            "from_config": spec.model_id in own,
        }
        | file_facts(spec)
        for spec in local_models()
    ]
    if json_:
        echo_json(rows)
        return
    table = [
        [
            row["model"],
            ", ".join(row["aliases"]),
            gigabytes(row.get("size")),
            row.get("error") or ("on disk" if row["on_disk"] else ""),
            row["source"],
        ]
        for row in rows
    ]
    echo_table(table, ["model", "aliases", "size", "", "from"])


@command.command()
@click.argument("source")
@click.option("--id", "model_id", help="Its id; without one, the last part of the source")
@click.option("aliases", "-a", "--alias", multiple=True, help="A short name for it")
def add(source: str, model_id: str | None, aliases: tuple[str, ...]) -> None:
    """Add a model to the config: a folder on disk, or a repository such as owner/name."""
    folder = Path(source).expanduser()
    entry: dict[str, Any] = {"id": model_id or folder.name}
    if folder.exists():
        inspect_folder(folder)
        entry["path"] = str(folder.absolute())
    else:
        entry["repo"] = source
    if aliases:
        entry["aliases"] = list(aliases)
        _check_aliases(aliases)
    name = PREFIX + entry["id"].removeprefix(PREFIX)
    if name in {spec.model_id for spec in local_models()}:
        raise RequestError(f"{name} is there already", fix="--id gives it another id")
    if "repo" in entry and not REPOSITORY.fullmatch(source):
        raise RequestError(f"{source} is no folder, and no repository such as owner/name")
    if not entry["id"].removeprefix(PREFIX).strip():
        raise RequestError("the id is empty", fix="--id gives it one")
    config_edit.add_model(entry)
    click.echo(f"{name} added: llm -m {aliases[0] if aliases else name} '…'")


@command.command()
@click.argument("model_id")
def remove(model_id: str) -> None:
    """Remove a model from the config. Its files stay where they are."""
    name = PREFIX + model_id.removeprefix(PREFIX)
    own = [model.id for model in load_settings().config.models]
    if name not in own:
        raise RequestError(f"{name} is not among the config's models ({', '.join(own) or 'none'})")
    config_edit.remove_model(own.index(name))
    click.echo(f"{name} removed from the config")


def _check_aliases(aliases: tuple[str, ...]) -> None:
    known = get_model_aliases()
    for alias in aliases:
        model = known.get(alias)
        if model is not None and not isinstance(model, MlxModel):
            raise RequestError(
                f"the alias {alias} means {model.model_id}", fix="-a gives it another one"
            )
