"""`llm tiered status`: the tiers, their models, the device, the key and the config."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click

from ..config.local_models import local_models
from ..config.settings import load_settings
from ..costs import spending, unlogged
from ..errors import TieredError
from ..gemini import SET_KEY
from ..mlx import device
from ..mlx.catalog import EMBEDDED, PREFIX
from ..mlx.weights import store
from ..paths import config_path, ledger_path, log_path
from ..router import budget, names
from ..router.decision import EMBEDDED_TIER
from ..server import instances
from ..wording import counted, dollars, gigabytes
from . import endpoints
from .config import in_force
from .lookup import gemini_key_source, tiered_model
from .output import echo_json, echo_table, json_option
from .ps import describe_engine, engine_facts

if TYPE_CHECKING:
    from ..config.sections import Budget
    from ..mlx.catalog import ModelSpec


@click.command("status")
@json_option
def command(json_: bool) -> None:
    """Show the tiers, models and servers, the device, the key, the engine, budget and config."""
    facts = gather()
    if json_:
        echo_json(facts)
        return
    click.echo(f"llm-tiered {facts['version']}")
    click.echo(f"device: {_describe_device(facts['device'])}")
    click.echo(f"Gemini key: {facts['gemini_key'] or f'none ({SET_KEY})'}")
    click.echo()
    rows = [
        [tier["tier"], tier["complexity"], tier["model"], tier["place"], _describe_files(tier)]
        for tier in facts["tiers"]
    ]
    echo_table(rows, ["tier", "complexity", "model", "place", "files"])
    for server in facts["endpoints"]:
        click.echo(f"{server['tier']} at {server['address']}: {endpoints.describe(server)}")
    for conflict in facts["names"]:
        click.echo(f"name: {conflict}")
    click.echo(f"engine: {_describe_engine(facts['engine'])}")
    if facts["resident"]:
        click.echo(f"in memory: {', '.join(facts['resident'])}")
    for server in facts["servers"]:
        log = f", log {server['log']}" if server["log"] else ""
        click.echo(f"server: {server['url']} (process {server['pid']}{log})")
    if facts["spent"]:
        click.echo(f"spent in the cloud: {_describe_spent(facts['spent'])}")
    for limit in facts["budget"]:
        click.echo(f"budget: {_describe_limit(limit)}")
    click.echo()
    note = "" if config_path().exists() else " (no such file; using the defaults)"
    click.echo(f"config: {config_path()}{note}")
    changed = {key: entry for key, entry in facts["config"].items() if entry["from"] != "default"}
    for key, entry in changed.items():
        click.echo(f"  {key}: from {entry['from']}")


def gather() -> dict[str, Any]:
    """Return everything that status shows, ready for JSON. Sizes are in bytes."""
    settings = load_settings()
    specs = {spec.model_id: spec for spec in local_models()}
    rows = [(tier.name, str(tier.complexity), tier.model_id, tier.place) for tier in settings.tiers]
    rows.append((EMBEDDED_TIER, "last resort", EMBEDDED.model_id, "here"))
    engine = engine_facts()
    return {
        "version": version("llm-tiered"),
        "device": device_facts(),
        "gemini_key": gemini_key_source(),
        "tiers": [
            {"tier": name, "complexity": complexity, "model": model, "place": place}
            | (file_facts(specs[model]) if model in specs else _other_facts(model))
            for name, complexity, model, place in rows
        ],
        "endpoints": endpoints.server_facts(),
        "names": [str(conflict) for conflict in names.conflicts(tiered_model().registry, settings)],
        "engine": engine,
        "resident": [model["name"] for model in (engine or {}).get("models", ())],
        "servers": [asdict(server) for server in instances.running()],
        "spent": _spent(),
        "budget": _budget(settings.config.budget),
        "config_path": str(config_path()),
        "config": in_force(),
    }


def _spent() -> dict[str, Any] | None:
    """What was spent in the cloud, in dollars as text, or None if nothing is counted yet."""
    if not ledger_path().exists():
        return None
    day, month = spending.period_starts()
    try:
        spent = spending.read_spent(log_path(), day=day, month=month)
        lost = unlogged.read_unlogged_since(log_path(), month)
    except TieredError as error:
        return {"error": str(error)}
    return {
        "day": f"{spent.day.normalize():f}",
        "month": f"{spent.month.normalize():f}",
        "unlogged_month": f"{lost.known.normalize():f}" if lost else None,
        "unpriced_requests": spent.unpriced,
    }


def _budget(limits: Budget) -> list[dict[str, Any]]:
    """Each limit of the budget in dollars, as text so that nothing is rounded."""
    if limits.day is None and limits.month is None:
        return []
    try:
        used = budget.used(limits)
    except TieredError as error:
        return [{"error": str(error)}]
    return [
        {
            "name": limit.name,
            "limit": str(limit.limit),
            "spent": f"{limit.spent.normalize():f}",
            "left": f"{limit.left.normalize():f}",
        }
        for limit in used
    ]


def _other_facts(model: str) -> dict[str, Any]:
    local = model.startswith(PREFIX)
    try:
        tiered_model().registry.get(model)
    except TieredError as error:
        return {"local": local, "error": str(error)}
    if local:
        return {"local": True, "error": "is named like a local model (mlx/…) but is not one"}
    return {"local": False}


def device_facts() -> dict[str, Any]:
    """Return the device that MLX uses, or the error if there is none. Sizes are in bytes."""
    try:
        here = device.detect()
    except TieredError as error:
        return {"error": str(error)}
    return {
        "kind": here.kind,
        "name": here.name,
        "memory": here.memory,
        "budget": load_settings().config.memory_limit or here.budget,
    }


def file_facts(spec: ModelSpec) -> dict[str, Any]:
    """Return where a local model comes from, whether it is on disk, and its size in bytes."""
    facts: dict[str, Any] = {"local": True, "source": spec.source, "on_disk": False}
    try:
        folder = store.locate(spec)
        if folder:
            size = store.model_files(spec, folder).size
            return facts | {"on_disk": True, "path": folder, "size": size}
    except TieredError as error:
        return facts | {"error": str(error)}
    return facts | {"size": spec.size}


def _describe_engine(facts: dict[str, Any] | None) -> str:
    if facts is None:
        never = not load_settings().config.keep_warm
        return "never used (keep_warm is 0)" if never else "none runs"
    log = f", log {facts['log']}" if facts["answers"] else ""
    return f"{describe_engine(facts)}{log}"


def _describe_device(facts: dict[str, Any]) -> str:
    if "error" in facts:
        return str(facts["error"])
    memory, usable = gigabytes(facts["memory"]), gigabytes(facts["budget"])
    return f"{facts['kind']} ({facts['name']}), {memory} of memory, models may use {usable}"


def _describe_spent(facts: dict[str, Any]) -> str:
    if "error" in facts:
        return str(facts["error"])
    day, month = dollars(Decimal(facts["day"])), dollars(Decimal(facts["month"]))
    unlogged = Decimal(facts["unlogged_month"] or 0)
    hidden = f" ({dollars(unlogged)} of it in no log)" if unlogged else ""
    unpriced = facts["unpriced_requests"]
    more = f", and more for {counted(unpriced, 'request')} of unknown price" if unpriced else ""
    return f"{day} today, {month} this month{hidden}{more}"


def _describe_limit(limit: dict[str, Any]) -> str:
    if "error" in limit:
        return str(limit["error"])
    left, total = dollars(Decimal(limit["left"])), dollars(Decimal(limit["limit"]))
    when = "today" if limit["name"] == "day" else f"this {limit['name']}"
    return f"{left} of {total} left {when}"


def _describe_files(tier: dict[str, Any]) -> str:
    if "error" in tier:
        return str(tier["error"])
    if not tier["local"]:
        return ""
    size = gigabytes(tier["size"])
    return f"{size} in {tier['path']}" if tier["on_disk"] else f"not downloaded, about {size}"
