"""The questions that `llm tiered verify --generate` asks models, at the user's expense."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from ..config.settings import load_settings
from ..router.billing import Billing
from ..router.inner import inner_response

if TYPE_CHECKING:
    import llm

    from ..router.candidates import Candidate
    from ..router.inner import Inner


def answer(
    candidate: Candidate, inner: Inner, prompt: llm.Prompt, options: llm.Options
) -> llm.Response:
    """Return a candidate's finished answer; what it costs in the cloud counts towards the budget.

    Raises whatever the model raises, or OverBudget.
    """
    response: llm.Response = inner_response(
        inner, options, prompt=prompt, stream=True, conversation=None, key=None
    )
    billing = Billing(response.id, load_settings().config.budget)
    if candidate.place == "cloud":
        billing.hold(inner, response, candidate.price)
    with closing(billing):
        response.text()
    return response
