"""The servers of tiers, as `llm tiered status` and `verify` show them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import llm

from ..config.settings import load_settings
from ..endpoints.pool import pool_of
from ..endpoints.probe import MOST_TOKENS, probe
from ..endpoints.state import states_of
from ..paths import config_path
from ..router.billing import Billing
from ..router.failures import explain
from ..router.inner import inner_options, inner_response
from ..wording import counted, did_you_mean, moment
from .findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.tiers import Tier
    from ..endpoints.probe import Capability
    from ..endpoints.state import ServerState
    from ..router.model import TieredModel


def server_facts() -> list[dict[str, Any]]:
    """Return the state of each server of each tier, ready for JSON."""
    tiers = [tier for tier in load_settings().tiers if tier.server]
    if not tiers:
        return []
    with ThreadPoolExecutor(max_workers=len(tiers)) as threads:
        looked = threads.map(_look, tiers)
    return [
        {"tier": tier.name} | _facts(tier, state)
        for tier, states in zip(tiers, looked, strict=True)
        for state in states
    ]


def describe(facts: dict[str, Any]) -> str:
    """Return the state of a server in a line."""
    healthy = f"answers in {facts['ms']:.0f} ms"
    if facts["token_ms"]:
        healthy = f"wrote a token in {facts['token_ms']:.0f} ms"
    parts = [facts["missing"] or facts["problem"] or healthy]
    if facts["context"]:
        parts.append(f"context of {counted(facts['context'], 'token')}")
    if queue := facts["queue"]:
        waiting = "" if queue["waiting"] is None else f", {queue['waiting']} waiting"
        parts.append(f"{queue['running']} running{waiting}")
    if outage := facts["outage"]:
        parts.append(f"left alone until {moment(outage['until'])}: {outage['reason']}")
    return "; ".join(parts)


def reached(tier: Tier) -> Iterator[Finding]:
    """Yield whether each server of a tier can be reached, and has its model."""
    for state in _look(tier):
        facts = _facts(tier, state)
        part = f"{tier.name} at {state.address}"
        if facts["missing"]:
            yield Finding(part, "warn", facts["missing"], f"correct it in {config_path()}")
        elif state.problem:
            yield Finding(part, "warn", describe(facts), "start it, or correct its address")
        else:
            yield Finding(part, "ok", describe(facts))


def abilities(model: TieredModel, tier: Tier) -> Iterator[Finding]:
    """Yield what each server of a tier can do, found out by asking it."""
    copies = [tier.model_copy(update={"server": (address,)}) for address in tier.server or ()]
    with ThreadPoolExecutor(max_workers=len(copies)) as threads:
        probed = [*threads.map(partial(_probe, model), copies)]
    for copy, capabilities in zip(copies, probed, strict=True):
        where = f"{tier.name} at {copy.server[0]}" if len(copies) > 1 and copy.server else tier.name
        for each in capabilities:
            missed = each.verdict == "no" and each.name in _MISSED
            yield Finding(f"{where}: {each.name}", "warn" if missed else "ok", _detail(each))


# A service may have hundreds of models.
_MOST_NAMES = 5

# What prompts need; without the rest, less is known or done.
_MISSED = {"answers", "schemas", "tools", "usage"}


def _detail(capability: Capability) -> str:
    if capability.name == "schemas" and capability.verdict == "no":
        return f"{capability.detail}; answers are checked, and another tier is asked after a miss"
    return capability.detail


def _probe(model: TieredModel, tier: Tier) -> list[Capability]:
    from ..endpoints.models import ServerModel

    inner = ServerModel(tier)

    def ask(prompt: str, *, options: dict[str, Any], **settings: Any) -> llm.Response:
        values = inner_options(inner, tier.options, {"max_tokens": MOST_TOKENS} | options)
        response: llm.Response = inner_response(
            inner,
            values,
            prompt=llm.Prompt(prompt, model=model, **settings),
            stream=True,
            conversation=None,
            key=None,
        )
        billing = Billing(response.id, load_settings().config.budget)
        if tier.place == "cloud":
            billing.hold(inner, response)
        try:
            response.text()
        finally:
            billing.close()
        return response

    return [*probe(ask, lambda error: explain(error, model=inner).reason)]


def _look(tier: Tier) -> list[ServerState]:
    # A token from somebody else's server may cost money, so only one's own is asked for it.
    token = tier.place != "cloud" and not tier.price and not tier.price_per_hour
    return states_of(pool_of(tier).endpoints, _key(tier), tier.model, token=token)


def _key(tier: Tier) -> str | None:
    try:
        return llm.get_key(alias=tier.key) if tier.key else None
    except ValueError:
        # `_candidate` tells that the stored keys can't be read.
        return None


def _facts(tier: Tier, state: ServerState) -> dict[str, Any]:
    contexts = {model.id: model.context for model in state.models or ()}
    context = contexts.get(tier.model) or (*contexts.values(), None)[0] if contexts else None
    missing = None if state.token_ms else _missing(tier, state)
    return asdict(state) | {"missing": missing, "context": context}


def _missing(tier: Tier, state: ServerState) -> str | None:
    """Why a server does not have the tier's model, if it says which models it has."""
    if state.models is None:
        return None
    names = [model.id for model in state.models]
    if tier.model in names or f"{tier.model}:latest" in names:
        return None
    if not names:
        return "it has no models"
    if near := did_you_mean(tier.model, names):
        return f"unknown model {tier.model!r}: {near}"
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"unknown model {tier.model!r}: known are {', '.join(names[:_MOST_NAMES])}{more}"
