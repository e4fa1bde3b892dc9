"""`llm tiered …`: a module for each command, imported when the command is called."""

from __future__ import annotations

import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

COMMANDS = (
    "route",
    "rules",
    "status",
    "verify",
    "download",
    "config",
    "models",
    "batch",
    "serve",
    "ps",
    "stop",
    "savings",
    "replay",
    "datasette",
    "compare",
    "eval",
    "feedback",
    "learn",
    "bench",
)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used, so that llm starts no slower."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        from .. import command_line

        command_line.end_soon()
        # Like stderr, stdout must survive characters that its encoding lacks, such as → in cp1252.
        if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")
        return super().invoke(ctx)


@click.command(cls=LazyGroup)
def tiered() -> None:
    """Send each prompt to the cheapest model that can answer it."""
