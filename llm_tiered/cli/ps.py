"""`llm tiered ps`: the engine with the models in its memory, and the servers."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click

from ..wording import counted, gigabytes, moment
from .output import echo_json, echo_note, echo_table, json_option
from .serve import describe

if TYPE_CHECKING:
    from ..mlx.process.client import RunningEngine

# Seconds for the engine's answer. One that is stopped or hangs gives none.
PATIENCE = 5.0

HEADERS = ("model", "memory", "answers", "tokens/s", "last used", "until")

WAYS = {"terminal": "in a terminal", "background": "in the background", "service": "as a service"}


@click.command("ps")
@json_option
def command(json_: bool) -> None:
    """Show the engine, the models in its memory and until when, and the servers.

    The engine is the process that answers for local models. The first prompt starts it.
    """
    from ..server import instances

    engine, servers = engine_facts(), instances.running()
    if json_:
        echo_json({"engine": engine, "servers": [asdict(server) for server in servers]})
        return
    if engine is None:
        echo_note("no engine runs")
    else:
        _show(engine)
    for server in servers:
        click.echo(f"server: {describe(server)}, {WAYS[server.kind]}")
    if not servers:
        echo_note("no server runs")


def engine_facts() -> dict[str, Any] | None:
    """Return what is known of the engine that runs, ready for JSON, or None if there is none.

    Sizes are in bytes, times in seconds since 1970. `answers` is whether it says anything at all;
    if not, the rest is missing.
    """
    from ..mlx.process import client
    from ..mlx.process.lease import has_engines

    if not has_engines():
        return None
    try:
        engine = client.look(PATIENCE)
    except client.NoAnswer:
        return {"answers": False}
    return _facts(engine) if engine else None


def _facts(engine: RunningEngine) -> dict[str, Any]:
    status = engine.status
    return {
        "answers": True,
        "pid": status.get("pid"),
        "version": dict(status.get("identity") or {}).get("version"),
        "same_version": engine.is_ours,
        "started": status.get("started"),
        "until": status.get("until"),
        "running": status.get("running", 0),
        "waiting": status.get("waiting", 0),
        "models": status.get("models", []),
        "unloaded": status.get("unloaded", []),
        "budget": status.get("budget"),
        "socket": str(engine.place.socket),
        "log": str(engine.place.log),
    }


def _show(engine: dict[str, Any]) -> None:
    click.echo(f"engine: {describe_engine(engine)}")
    if not engine["answers"]:
        return
    running, waiting = engine["running"], engine["waiting"]
    click.echo(f"answers: {running} running, {waiting} waiting")
    models = engine["models"]
    if models:
        used = gigabytes(sum(model["bytes"] for model in models))
        of = f" of {gigabytes(engine['budget'])} that they may use" if engine["budget"] else ""
        click.echo(f"memory: {used} in {counted(len(models), 'model')}{of}")
        click.echo()
        echo_table([_row(model) for model in models], HEADERS)
        click.echo()
    for model in engine["unloaded"]:
        what = f"{model['name']} ({gigabytes(model['bytes'])}) at {moment(model['at'])}"
        click.echo(f"unloaded: {what}, {model['reason']}")


def _row(model: dict[str, Any]) -> list[Any]:
    answers = model["answers"]
    return [
        model["name"],
        gigabytes(model["bytes"]),
        answers or "idle",
        model["tokens_per_second"] if answers else "-",
        moment(model["last_used"]),
        moment(model["until"]) if model["until"] else "in use",
    ]


def describe_engine(engine: dict[str, Any]) -> str:
    """Return what is known of the engine in a line."""
    if not engine["answers"]:
        return "does not answer (llm tiered stop --now ends it)"
    known = engine["version"] or "unknown"
    line = f"process {engine['pid']} since {moment(engine['started'])}, version {known}"
    if not engine["same_version"]:
        ours = version("llm-tiered")
        other = f", and this is {ours}" if engine["version"] != ours else " of another installation"
        return f"{line}{other}: the next prompt replaces it"
    if engine["until"]:
        return f"{line}, until {moment(engine['until'])}"
    asked = engine["running"] or engine["waiting"]
    return line if asked else f"{line}, until the server ends"
