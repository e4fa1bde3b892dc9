"""`llm tiered models`: the local models of the catalog and of the config."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from llm import get_model_aliases

from ..config import edit
from ..config.local_models import local_models
from ..config.settings import load_settings
from ..errors import RequestError
from ..mlx.catalog import PREFIX
from ..mlx.models import MlxModel
from ..mlx.weights.inspect import inspect_folder
from ..wording import gigabytes
from .output import echo_json, echo_table, json_option
from .status import file_facts

# Neither part begins with a dot: ./name is a folder.
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@click.group("models", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List the local models, or add and remove models of your own."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


@command.command("list")
@json_option
def list_(json_: bool = False) -> None:
    """List the local models: those of the plugin and those of the config."""
    from_config = {model.id for model in load_settings().config.models}
    rows = [
        {
            "model": spec.model_id,
            "aliases": spec.aliases,
            "parameters": spec.parameters,
            "from_config": spec.model_id in from_config,
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
@click.option("--id", "model_id", help="Id of the model  [default: the last part of SOURCE]")
@click.option(
    "aliases",
    "-a",
    "--alias",
    multiple=True,
    help="Short name for the model; can be given several times",
)
def add(source: str, model_id: str | None, aliases: tuple[str, ...]) -> None:
    """Add a model to the config: a folder, or a repository on the hub such as owner/name."""
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
        raise RequestError(f"{name} already exists", fix="--id NAME")
    if "repo" in entry and not REPOSITORY.fullmatch(source):
        raise RequestError(f"{source} is neither a folder nor a repository such as owner/name")
    if not entry["id"].removeprefix(PREFIX).strip():
        raise RequestError("the id is empty", fix="--id NAME")
    edit.add_model(entry)
    click.echo(f"{name} added: llm -m {aliases[0] if aliases else name} '…'")


@command.command()
@click.argument("model_id")
def remove(model_id: str) -> None:
    """Remove a model from the config; its files are not deleted."""
    name = PREFIX + model_id.removeprefix(PREFIX)
    ids = [model.id for model in load_settings().config.models]
    if name not in ids:
        raise RequestError(f"{name} is not one of the config's models ({', '.join(ids) or 'none'})")
    edit.remove_model(ids.index(name))
    click.echo(f"{name} removed from the config")


def _check_aliases(aliases: tuple[str, ...]) -> None:
    known = get_model_aliases()
    for alias in aliases:
        model = known.get(alias)
        if model is not None and not isinstance(model, MlxModel):
            raise RequestError(f"the alias {alias} belongs to {model.model_id}", fix="-a NAME")
