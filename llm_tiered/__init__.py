"""Local MLX models for llm, and `tiered`, which sends prompts to the cheapest capable tier.

How a prompt is handled: `plugin` registers the models with llm; `router.model` is `tiered` itself.
`router.drivers` does the I/O of a `router.exchange`, whose `router.request` holds the settings from
`config` and a decision. `router.decision` picks the tier, by the config's `rules` or, if nothing
else says how hard the prompt is, with the `estimator`, and a higher one if `router.loops` finds
that a model is stuck; `router.candidates` lists the models to try, `router.attempts` tries them. On
the way `router.cached` looks for an earlier answer in the `cache`, `router.checks` and
`router.budget` skip models that can't answer or cost too much, `router.billing` writes down what an
attempt costs, `router.inner` makes the request to the model, with a key if `router.keys` says that
it may have one, `router.completeness` checks that its answer is whole, and `router.quality` judges
it. If there is none, `router.failures` tells what that means: a retry, a wait or the next model.
For a local model, `mlx.prompt` turns the prompt into a request to `mlx.engine`, in the process that
`mlx.process.choice` finds or starts, and `mlx.answer` turns its events into llm's. For the model of
a tier with a server, `endpoints.asking` makes the request to the one that `endpoints.pool` gives,
and `endpoints.answer` does the same. `log.record` is what ends up in llm's log, where `costs` and
`dashboard` read it; `replay` decides again, with other settings. `server.chat` takes a prompt from
a client of OpenAI's API the same way. `batch` runs over the rows of a file, and `cluster` lets it
use the local models of other machines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm

if TYPE_CHECKING:
    from collections.abc import Callable

    import click
    from llm.models import ModelWithAliases


@llm.hookimpl(trylast=True)
def register_models(
    register: Callable[..., None], model_aliases: list[ModelWithAliases] | None = None
) -> None:
    """Register the local models and `tiered`, after all other plugins' models.

    Some plugins call this hook themselves, with `register` alone.
    """
    from . import plugin

    plugin.register(register, model_aliases)


@llm.hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `llm tiered`."""
    from .cli import tiered

    cli.add_command(tiered)


__all__ = ["register_commands", "register_models"]
