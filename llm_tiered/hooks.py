"""Hooks for other packages: they can say how hard a prompt is, and keep it from a tier.

A package offers its hooks under the entry point group `llm_tiered`:

    [project.entry-points.llm_tiered]
    mine = "my_package.routing"

    from llm_tiered.hooks import hookimpl

    @hookimpl
    def estimate_complexity(prompt):
        return 9 if "contract" in prompt.prompt else None
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

import pluggy

from .config.terms import HIGHEST, LOWEST
from .estimator import Estimate

if TYPE_CHECKING:
    import llm

PROJECT = "llm_tiered"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

logger = logging.getLogger("llm_tiered")


class Specifications:
    """What can be implemented. The first result that is not None wins."""

    @hookspec(firstresult=True)
    def estimate_complexity(self, prompt: llm.Prompt) -> int | Estimate | None:
        """How hard the prompt is, from 1 to 10, or None to leave it to others.

        Asked only where the request itself names no tier, complexity or task.
        """

    @hookspec(firstresult=True)
    def veto_tier(self, tier: str, model: str, prompt: llm.Prompt) -> str | None:
        """Why this tier's model must not see the prompt, or None if it may."""


@cache
def manager() -> pluggy.PluginManager:
    """All plugins that are installed, found at the first request and not before."""
    plugins = pluggy.PluginManager(PROJECT)
    plugins.add_hookspecs(Specifications)
    plugins.load_setuptools_entrypoints(PROJECT)
    return plugins


def estimate(prompt: llm.Prompt) -> Estimate | None:
    """What a plugin says of the prompt, or None if none says anything.

    A plugin that fails, or says something that is no complexity, is told of and left out.
    """
    try:
        said = manager().hook.estimate_complexity(prompt=prompt)
    except Exception as error:  # it is someone else's code, and the prompt can go on without it
        logger.warning("a plugin's estimate_complexity failed: %s", _brief(error))
        return None
    if said is None:
        return None
    complexity = said.complexity if isinstance(said, Estimate) else said
    if type(complexity) is int and LOWEST <= complexity <= HIGHEST:
        if isinstance(said, Estimate):
            return said
        return Estimate(score=said / 10, complexity=said, confidence=1.0, reasons=("a plugin",))
    logger.warning("a plugin's estimate_complexity gave %r, which is not from 1 to 10", said)
    return None


def veto(tier: str, model: str, prompt: llm.Prompt) -> str | None:
    """Why a plugin keeps the prompt from this tier, or None if none does.

    One that fails keeps it, too: who knows what it would have seen.
    """
    try:
        said = manager().hook.veto_tier(tier=tier, model=model, prompt=prompt)
    except Exception as error:
        return f"a plugin's veto_tier failed: {_brief(error)}"
    return None if said is None else str(said)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
