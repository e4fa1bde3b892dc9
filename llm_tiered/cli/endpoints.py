"""The servers of tiers in `llm tiered status` and `verify`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import llm

from ..config.settings import load_settings
from ..endpoints.models import ServerModel
from ..endpoints.pool import pool_of
from ..endpoints.probe import MOST_TOKENS, probe
from ..endpoints.problems import missing_model
from ..endpoints.state import states_of
from ..paths import config_path
from ..router.failures import explain
from ..router.inner import inner_options
from ..router.keys import key_fix
from ..wording import counted, moment
from . import questions
from .findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.tiers import Tier
    from ..endpoints.probe import Capability
    from ..endpoints.state import ServerState
    from ..router.candidates import Candidate
    from ..router.model import TieredModel

# What prompts need; the other capabilities only add something.
_NEEDED = {"answers", "schemas", "tools", "usage"}


def server_facts() -> list[dict[str, Any]]:
    """Return the state of each server of each tier, ready for JSON."""
    tiers = [tier for tier in load_settings().tiers if tier.server]
    if not tiers:
        return []
    with ThreadPoolExecutor(max_workers=len(tiers)) as threads:
        states_by_tier = threads.map(_look, tiers)
    return [
        {"tier": tier.name} | _facts(tier, state)
        for tier, states in zip(tiers, states_by_tier, strict=True)
        for state in states
    ]


def describe(facts: dict[str, Any]) -> str:
    """Return the state of a server as a line of text."""
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
        why = "" if parts[0] in outage["reason"] else f": {outage['reason']}"
        parts.append(f"left alone until {moment(outage['until'])}{why}")
    return "; ".join(parts)


@dataclass(frozen=True)
class Reached:
    """Whether a server can be reached and has the model; a slow one may answer who waits."""

    finding: Finding
    is_slow: bool


def reached(tier: Tier) -> list[Reached]:
    """Return for each server of a tier whether it can be reached and has the model."""
    return [_reached(tier, state) for state in _look(tier)]


def _reached(tier: Tier, state: ServerState) -> Reached:
    facts = _facts(tier, state)
    part = f"{tier.name} at {state.address}"
    if facts["missing"]:
        fix = f"correct it in {config_path()}"
        return Reached(Finding(part, "warn", facts["missing"], fix), is_slow=False)
    if state.problem:
        finding = Finding(part, "warn", describe(facts), _fix(tier, state))
        return Reached(finding, is_slow=state.trouble == "slow")
    return Reached(Finding(part, "ok", describe(facts)), is_slow=False)


def _fix(tier: Tier, state: ServerState) -> str | None:
    if state.trouble == "key":
        return key_fix(ServerModel(tier))
    if state.trouble in ("loading", "slow"):
        return "try again"
    if state.trouble == "error":
        return f"look into its log, or correct the tier in {config_path()}"
    return "start it, or correct its address"


def abilities(model: TieredModel, candidate: Candidate, tier: Tier) -> Iterator[Finding]:
    """Yield what each server of a candidate's tier can do, found out by asking it."""
    addresses = tier.server or ()
    with ThreadPoolExecutor(max_workers=len(addresses)) as threads:
        probed = [*threads.map(partial(_probe, model, candidate, tier), addresses)]
    for address, capabilities in zip(addresses, probed, strict=True):
        where = f"{tier.name} at {address}" if len(addresses) > 1 else tier.name
        for each in capabilities:
            lacks = each.verdict == "no" and each.name in _NEEDED
            yield Finding(f"{where}: {each.name}", "warn" if lacks else "ok", _detail(each))


def _detail(capability: Capability) -> str:
    if capability.name == "schemas" and capability.verdict == "no":
        return f"{capability.detail}; answers are checked, and a second miss goes to another tier"
    return capability.detail


def _probe(model: TieredModel, candidate: Candidate, tier: Tier, address: str) -> list[Capability]:
    inner = ServerModel(tier.model_copy(update={"server": (address,)}))

    def ask(prompt: str, *, options: dict[str, Any], **settings: Any) -> llm.Response:
        values = inner_options(inner, tier.options, {"max_tokens": MOST_TOKENS} | options)
        return questions.answer(
            candidate, inner, llm.Prompt(prompt, model=model, **settings), values
        )

    return [*probe(ask, lambda error: explain(error, model=inner).reason)]


def _look(tier: Tier) -> list[ServerState]:
    # A token from a cloud server may cost money.
    token = tier.place != "cloud" and tier.answer_price is None
    return states_of(pool_of(tier).endpoints, _key(tier), tier.model, token=token)


def _key(tier: Tier) -> str | None:
    try:
        return llm.get_key(alias=tier.key) if tier.key else None
    except ValueError:
        # `verify` reports elsewhere that the stored keys can't be read.
        return None


def _facts(tier: Tier, state: ServerState) -> dict[str, Any]:
    missing = None if state.token_ms else _missing(tier, state)
    return asdict(state) | {"missing": missing, "context": _context(tier, state)}


def _context(tier: Tier, state: ServerState) -> int | None:
    """The context of the tier's model, or of the only one: llama.cpp answers to any name."""
    models = state.models or ()
    own = [model.context for model in models if model.id in _names(tier)]
    return next(iter(own or [model.context for model in models if len(models) == 1]), None)


def _names(tier: Tier) -> tuple[str, str]:
    """The names under which a server may list the tier's model; Ollama adds a tag."""
    return tier.model, f"{tier.model}:latest"


def _missing(tier: Tier, state: ServerState) -> str | None:
    """Why a server does not have the tier's model, if it lists its models and not that one."""
    if state.models is None:
        return None
    models = [model.id for model in state.models]
    return None if {*models} & {*_names(tier)} else missing_model(tier.model, models)
