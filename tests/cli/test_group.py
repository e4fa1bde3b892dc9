from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from llm.cli import cli

from tests.cli.commands import refused, run

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = {"route", "rules", "serve", "status", "verify", "download", "config", "models"}
COMMANDS |= {
    "batch",
    "savings",
    "replay",
    "bench",
    "compare",
    "eval",
    "feedback",
    "learn",
    "datasette",
    "ps",
    "stop",
}
SUBCOMMANDS = [
    *((name,) for name in sorted(COMMANDS)),
    *(("config", name) for name in ("path", "show", "init", "check")),
    ("rules", "test"),
    *(("models", name) for name in ("list", "add", "remove")),
]

# `llm --help` must not import any command, nor what they need.
HEAVY = ("mlx", "mlx_lm", "huggingface_hub", "transformers", "tqdm", "ruamel", "tabulate")
IMPORTED = """
import json, sys
from llm.cli import cli
cli(sys.argv[1:], standalone_mode=False)
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def imported_by(*args: str) -> set[str]:
    """The modules that `llm …` imports in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", IMPORTED, *args], capture_output=True, text=True, check=True
    )
    assert "tiered" in result.stdout
    return set(json.loads(result.stderr))


def test_help_lists_the_commands() -> None:
    """`llm tiered --help` lists all commands, each with its description."""
    lines = run("--help").stdout.partition("Commands:\n")[2].splitlines()
    listed = {name: text for name, _, text in (line.strip().partition(" ") for line in lines)}
    assert set(listed) == COMMANDS
    assert all(text.strip() for text in listed.values())


@pytest.mark.parametrize("names", SUBCOMMANDS, ids=" ".join)
def test_each_command_has_a_help(names: tuple[str, ...]) -> None:
    """Each command and each of its options has a description."""
    text = run(*names, "--help").stdout
    _, _, after = text.partition("\n\n")
    assert after.partition("\n\n")[0].strip().endswith(".")
    options = text.partition("Options:\n")[2].partition("\n\n")[0].splitlines()
    assert options
    assert all(len(line.split("  ")) > 2 or line.startswith("   ") for line in options)


@pytest.mark.parametrize("names", [(), ("config",)], ids=["tiered", "config"])
def test_a_group_alone_shows_its_help(names: tuple[str, ...]) -> None:
    """A group without a command shows its help."""
    result = run(*names, code=2)
    assert "Commands:" in result.stderr


@pytest.mark.parametrize("names", [("statos",), ("config", "shwo"), ("models", "delete")])
def test_an_unknown_command_is_reported(names: tuple[str, ...]) -> None:
    """An unknown command is an error with its name."""
    result = run(*names, code=2)
    assert result.stdout == ""
    assert f"No such command '{names[-1]}'" in result.stderr


def test_help_works_with_a_broken_config(config_file: Path) -> None:
    """Help works with a mistake in the config."""
    config_file.write_text("tiers: [")
    assert "Commands:" in run("--help").stdout
    assert "Options:" in run("route", "--help").stdout


@pytest.mark.parametrize(
    "args",
    [
        ("route", "Hello"),
        ("status",),
        ("download",),
        ("config", "show"),
        ("config", "check"),
        ("models",),
        ("models", "add", "owner/name"),
        ("models", "remove", "name"),
    ],
    ids=" ".join,
)
def test_an_error_is_one_line(config_file: Path, args: tuple[str, ...]) -> None:
    """A mistake in the config is one line on stderr, in every command."""
    config_file.write_text("tiers: [")
    assert refused(*args).startswith(f"{config_file}: ")


def test_llm_starts_no_slower() -> None:
    """`llm --help` lists `tiered` without importing its commands or what they need."""
    modules = imported_by("--help")
    assert "llm_tiered.cli" in modules
    assert {name for name in modules if name.startswith("llm_tiered.cli.")} == set()
    assert modules.isdisjoint(HEAVY)


def test_a_command_imports_only_its_own() -> None:
    """A command that needs no MLX does not import it, nor other commands."""
    modules = imported_by("tiered", "config", "path")
    assert "llm_tiered.cli.config" in modules
    assert modules.isdisjoint({"llm_tiered.cli.verify", "llm_tiered.cli.download", *HEAVY})


def test_an_encoding_that_lacks_characters() -> None:
    """An output whose encoding lacks arrows, as on Windows, gets the report without them."""
    result = CliRunner(charset="cp1252").invoke(cli, ["tiered", "route"], catch_exceptions=False)
    assert "\\u2192" in result.stdout
