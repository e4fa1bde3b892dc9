"""Hooks for other packages: they can estimate how hard a prompt is, and keep it from a tier.

A package registers its hooks under the entry point group `llm_tiered`:

    [project.entry-points.llm_tiered]
    mine = "my_package.routing"

    from llm_tiered.hooks import hookimpl

    @hookimpl
    def estimate_complexity(prompt):
        return 9 if "contract" in prompt.prompt else None
"""

from __future__ import annotations

import logging
import traceback
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
    """The hooks that a package can implement. The first result that is not None counts."""

    @hookspec(firstresult=True)
    def estimate_complexity(self, prompt: llm.Prompt) -> int | Estimate | None:
        """Return how hard the prompt is, from 1 to 10, or None to leave it to others.

        Called only for requests without a tier, a complexity or a task, of their own or by a rule.
        """

    @hookspec(firstresult=True)
    def veto_tier(self, tier: str, model: str, prompt: llm.Prompt) -> str | None:
        """Return why this tier's model must not see the prompt, or None if it may."""


@cache
def manager() -> pluggy.PluginManager:
    """Return the manager of all installed plugins; they are loaded with the first request."""
    plugins = pluggy.PluginManager(PROJECT)
    plugins.add_hookspecs(Specifications)
    plugins.load_setuptools_entrypoints(PROJECT)
    return plugins


def estimating_plugins() -> list[str]:
    """Return the names of the plugins that may estimate how hard a prompt is."""
    try:
        implementations = manager().hook.estimate_complexity.get_hookimpls()
    except Exception:  # a plugin that can't be loaded estimates nothing
        return []
    return sorted({each.plugin_name for each in implementations})


def estimate(prompt: llm.Prompt) -> Estimate | None:
    """Return a plugin's estimate of the prompt, or None if there is none.

    A plugin that raises an error or returns something else is ignored, with a warning.
    """
    try:
        result = manager().hook.estimate_complexity(prompt=prompt)
    except Exception as error:  # someone else's code, and the request can do without it
        logger.warning("%s", _describe("estimate_complexity", error))
        return None
    if result is None:
        return None
    complexity = result.complexity if isinstance(result, Estimate) else result
    if type(complexity) is int and LOWEST <= complexity <= HIGHEST:
        if isinstance(result, Estimate):
            return result
        return Estimate(
            score=complexity / 10, complexity=complexity, confidence=1.0, reasons=("a plugin",)
        )
    logger.warning(
        "a plugin's estimate_complexity returned %r, which is not a complexity from 1 to 10", result
    )
    return None


def veto(tier: str, model: str, prompt: llm.Prompt) -> str | None:
    """Return why a plugin keeps the prompt from this tier, or None if no plugin does.

    A plugin that raises an error counts as a veto: it may have been about to object.
    """
    try:
        reason = manager().hook.veto_tier(tier=tier, model=model, prompt=prompt)
    except Exception as error:
        return _describe("veto_tier", error)
    return None if reason is None else str(reason)


def may_veto() -> bool:
    """Return whether a plugin might keep a prompt from a tier."""
    try:
        return bool(manager().hook.veto_tier.get_hookimpls())
    except Exception:  # its own error is the veto
        return True


def _describe(hook: str, error: Exception) -> str:
    """Say which plugin's hook failed, and why."""
    reason = f"{type(error).__name__}: {error}"
    try:
        implementations = getattr(manager().hook, hook).get_hookimpls()
    except Exception:  # the same error again, from loading the plugins
        return f"a plugin can't be loaded: {reason}"
    called = {frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)}
    for each in implementations:
        if getattr(each.function, "__code__", None) in called:
            return f"{each.plugin_name}'s {hook} failed: {reason}"
    return f"a plugin's {hook} failed: {reason}"
