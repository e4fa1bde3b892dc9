"""`llm tiered status`: what is there, what is missing, what is in force."""

from __future__ import annotations

from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click

from ..config.local_models import local_models
from ..config.settings import load_settings
from ..errors import TieredError
from ..mlx import device
from ..mlx.catalog import EMBEDDED, PREFIX
from ..mlx.engine.engine import ENGINE
from ..mlx.weights import store
from ..paths import config_path
from ..router import budget
from ..router.decision import EMBEDDED_TIER
from ..wording import dollars, gigabytes
from .config import in_force
from .lookup import gemini_key_source, tiered_model
from .output import echo_json, echo_table, json_option

if TYPE_CHECKING:
    from ..config.sections import Budget
    from ..mlx.catalog import ModelSpec


@click.command("status")
@json_option
def command(json_: bool) -> None:
    """Show the tiers, their models on disk, the device, the key and the config in force."""
    facts = gather()
    if json_:
        echo_json(facts)
        return
    click.echo(f"llm-tiered {facts['version']}")
    click.echo(f"device: {_describe_device(facts['device'])}")
    click.echo(f"Gemini key: {facts['gemini_key'] or 'none (llm keys set gemini)'}")
    click.echo()
    rows = [
        [tier["tier"], tier["complexity"], tier["model"], _describe_files(tier)]
        for tier in facts["tiers"]
    ]
    echo_table(rows, ["tier", "complexity", "model", "files"])
    if facts["resident"]:
        click.echo(f"in memory: {', '.join(facts['resident'])}")
    for limit in facts["budget"]:
        click.echo(f"budget: {_describe_limit(limit)}")
    click.echo()
    exists = "" if config_path().exists() else " (not there: the defaults hold)"
    click.echo(f"config: {config_path()}{exists}")
    changed = {key: entry for key, entry in facts["config"].items() if entry["from"] != "default"}
    for key, entry in changed.items():
        click.echo(f"  {key}: from {entry['from']}")


def gather() -> dict[str, Any]:
    """All of it, ready for JSON. Sizes are bytes."""
    settings = load_settings()
    specs = {spec.model_id: spec for spec in local_models()}
    rows = [(tier.name, str(tier.complexity), tier.model) for tier in settings.tiers]
    rows.append((EMBEDDED_TIER, "last resort", EMBEDDED.model_id))
    return {
        "version": version("llm-tiered"),
        "device": device_facts(),
        "gemini_key": gemini_key_source(),
        "tiers": [
            {"tier": name, "complexity": complexity, "model": model}
            | (file_facts(specs[model]) if model in specs else _other_facts(model))
            for name, complexity, model in rows
        ],
        "resident": list(ENGINE.resident()),
        "budget": _budget(settings.config.budget),
        "config_path": str(config_path()),
        "config": in_force(),
    }


def _budget(limits: Budget) -> list[dict[str, Any]]:
    """Each limit of the budget in dollars, as text so that none is rounded."""
    if limits.day is None and limits.month is None:
        return []
    try:
        found = budget.used(limits)
    except TieredError as error:
        return [{"error": str(error)}]
    return [
        {"name": one.name, "limit": str(one.limit), "spent": str(one.spent), "left": str(one.left)}
        for one in found
    ]


def _other_facts(model: str) -> dict[str, Any]:
    local = model.startswith(PREFIX)
    try:
        tiered_model().registry.get(model)
    except TieredError as error:
        return {"local": local, "error": str(error)}
    if local:
        return {"local": True, "error": "has the name of a local model, and is none"}
    return {"local": False}


def device_facts() -> dict[str, Any]:
    """The device that MLX uses, or why there is none."""
    try:
        found = device.detect()
    except TieredError as error:
        return {"error": str(error)}
    return {
        "kind": found.kind,
        "name": found.name,
        "memory": found.memory,
        "budget": load_settings().config.memory_limit or found.budget,
    }


def file_facts(spec: ModelSpec) -> dict[str, Any]:
    """Where a local model comes from, and whether it is on disk and how large."""
    facts: dict[str, Any] = {"local": True, "source": spec.source, "on_disk": False}
    try:
        folder = store.locate(spec)
        if folder:
            found = store.model_files(spec, folder)
            return facts | {"on_disk": True, "path": folder, "size": found.size}
    except TieredError as error:
        return facts | {"error": str(error)}
    return facts | {"size": spec.size}


def _describe_device(facts: dict[str, Any]) -> str:
    if "error" in facts:
        return str(facts["error"])
    memory, budget = gigabytes(facts["memory"]), gigabytes(facts["budget"])
    return f"{facts['kind']} ({facts['name']}), {memory} of memory, models may use {budget}"


def _describe_limit(limit: dict[str, Any]) -> str:
    if "error" in limit:
        return str(limit["error"])
    left, total = dollars(Decimal(limit["left"])), dollars(Decimal(limit["limit"]))
    return f"{left} of {total} left this {limit['name']}"


def _describe_files(tier: dict[str, Any]) -> str:
    if "error" in tier:
        return str(tier["error"])
    if not tier["local"]:
        return "cloud"
    size = gigabytes(tier["size"])
    return f"{size} in {tier['path']}" if tier["on_disk"] else f"not downloaded, about {size}"
