"""Local MLX models for llm, and one model that sends each prompt to the cheapest tier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm

if TYPE_CHECKING:
    from collections.abc import Callable

    import click
    from llm.models import ModelWithAliases


@llm.hookimpl(trylast=True)
def register_models(register: Callable[..., None], model_aliases: list[ModelWithAliases]) -> None:
    """Register the local models and `tiered`, after everybody else's."""
    from . import plugin

    plugin.register(register, model_aliases)


@llm.hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `llm tiered`."""
    from .cli import tiered

    cli.add_command(tiered)


__all__ = ["register_commands", "register_models"]
