"""Prompt → estimate of its complexity: that of a plugin, else our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .inner import last_user_text

if TYPE_CHECKING:
    import llm

    from ..estimator import Estimate
    from ..estimator.model import Coefficients


def estimate_of(
    prompt: llm.Prompt, *, ask_plugins: bool = True, coefficients: Coefficients | None = None
) -> Estimate:
    """Return how hard a prompt is, without calling any model.

    `coefficients` are those in use, unless they are given.
    """
    from .. import hooks
    from ..estimator import current, estimate

    return (hooks.estimate(prompt) if ask_plugins else None) or estimate(
        last_user_text(prompt),
        messages=prompt.messages,
        attachments=len(prompt.attachments),
        tools=len(prompt.tools),
        schema=prompt.schema is not None,
        coefficients=coefficients or current(),
    )
