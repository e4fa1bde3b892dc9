"""The report of a replay in words, for the terminal and the dashboard."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..wording import counted, dollars

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Facts = Mapping[str, Any]


def move_name(move: Facts) -> str:
    """Return the tiers of a move; if the tier stays, its models."""
    if move["from"] != move["to"]:
        return f"{move['from']} → {move['to']}"
    return f"{move['from']}: {move['from_model']} → {move['to_model']}"


def settings_name(settings: Facts) -> str:
    """Return what was replayed: a config file, single values, or the present settings."""
    changes = [f"--set {change}" for change in settings["changes"]]
    return " ".join(filter(None, [settings["config"], *changes])) or "your present settings"


def good(known: Facts) -> str:
    """Return the share of good answers among those of which it is known, with its interval."""
    if not known["known"]:
        return "not known"
    low, high = (known["interval"][side] for side in ("low", "high"))
    return f"{known['mean']:.1%} of {known['known']:,} ({low:.1%} to {high:.1%})"


def notes(facts: Facts) -> Iterator[str]:
    """Yield what else a reader has to know, in sentences."""
    yield from _cost_notes(facts["cost"])
    yield from _quality_notes(facts["quality"])
    settings = facts["settings"]
    if settings["environment"]:
        yield f"the environment applies, too: {', '.join(settings['environment'])}"
    if settings["not_played"]:
        names = ", ".join(settings["not_played"])
        yield f"not replayed, because it has no influence on the decision: {names}"
    for left_out in facts["not_replayed"]:
        yield f"not replayed: {counted(left_out['requests'], 'request')}: {left_out['reason']}"


def _cost_notes(cost: Facts) -> Iterator[str]:
    for side, name in (("before", "cost"), ("after", "cost then")):
        each = cost[side]
        if each["uncounted_requests"]:
            interval = each["interval"]
            amounts = [dollars(Decimal(str(interval[end]))) for end in interval or ()]
            between = f"; {' to '.join(amounts)} if they are like the others" if amounts else ""
            yield (
                f"* {name}: the tokens of {counted(each['uncounted_requests'], 'request')} are "
                f"unknown{between}"
            )
        if each["unpriced_requests"]:
            yield (
                f"* {name}: the price of {counted(each['unpriced_requests'], 'request')} is unknown"
            )


def _quality_notes(quality: Facts) -> Iterator[str]:
    if quality["answered_before"]:
        number = counted(quality["answered_before"], "prompt")
        yield f"the models that they move to have answered {number} of these before"
    difference = quality["difference"]
    if difference is None:
        return
    interval = difference["interval"]
    between = f" ({interval['low']:+.0%} to {interval['high']:+.0%})" if interval else ""
    verdicts = {"as good": "as good", "worse": "worse", "too few": "too few to tell"}
    yield (
        f"where the quality of both is known ({counted(difference['rows'], 'request')}): "
        f"{difference['mean']:+.0%}{between}, {verdicts[difference['verdict']]}"
    )
