"""How the tests call commands: through llm's own command line, in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import yaml
from click.testing import CliRunner
from llm.cli import cli

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

CLOUD = "gemini/gemini-flash-latest"
EMBEDDED = "mlx/SmolLM2-135M-Instruct"


def invoke(*args: str, code: int = 0) -> Result:
    """Run `llm …` and check its exit code. An uncaught exception fails the test."""
    result = CliRunner().invoke(cli, list(args), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def run(*args: str, code: int = 0) -> Result:
    """Run `llm tiered …`."""
    return invoke("tiered", *args, code=code)


def run_json(*args: str, code: int = 0) -> Any:
    """Run `llm tiered … --json` and return the parsed output."""
    return json.loads(run(*args, "--json", code=code).stdout)


def refused(*args: str) -> str:
    """Run `llm tiered …`, expect one line on stderr and exit code 1, and return the message."""
    result = run(*args, code=1)
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def prompt(*args: str) -> str:
    """Run `llm …`, llm's own command for prompts, and return the answer."""
    return invoke(*args).stdout.strip()


def tier(name: str, complexity: str, model: str, **options: Any) -> dict[str, Any]:
    """A tier as the config has it."""
    return {"name": name, "complexity": complexity, "model": model, "options": options}


def cut_short(folder: Path) -> None:
    """Damage a model: keep only the first part of its weights."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5_000])


def configure(*tiers: dict[str, Any], **settings: Any) -> Path:
    """Write the config file with these tiers, or the default ones, and these settings."""
    path: Path = llm.user_dir() / "tiered" / "config.yaml"
    path.parent.mkdir(exist_ok=True)
    document = {"tiers": list(tiers)} | settings if tiers else settings
    path.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    return path
