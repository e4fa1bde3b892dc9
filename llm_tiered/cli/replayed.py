"""The report of a replay in the terminal."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from ..log import answers
from ..log.database import parse_time
from ..log.replay_words import good, move_name, notes, settings_name
from ..wording import counted, dollars, line, percent
from .output import echo_table

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    Facts = Mapping[str, Any]

# Examples of each move, and the characters of their prompts and reasons.
EXAMPLES = 2
WIDTH = 50
REASON = 90


def echo_report(facts: Facts, database: sqlite3.Connection) -> None:
    """Print the report; the beginnings of prompts come from the log."""
    requests, moved = facts["requests"], facts["moved"]
    click.echo(_heading(facts))
    if requests:
        click.echo(_moved(facts))
        click.echo()
        headers = ["tier", "complexity", "requests", "then", "cost", "then"]
        echo_table([_tier(tier) for tier in facts["tiers"]] + [_total(facts)], headers)
    if moved:
        click.echo()
        rows = [[move_name(move), *_move(move)] for move in facts["moves"]]
        echo_table(rows, ["moves", "requests", "cost", "then", "good", "then"])
        click.echo()
        _echo_examples(facts, database)
    if lines := list(notes(facts)):
        click.echo()
        click.echo("\n".join(lines))


def _heading(facts: Facts) -> str:
    period = facts["period"]
    if not facts["requests"]:
        times = any(period[name] for name in ("since", "until"))
        return "no requests to tiered that can be replayed" + (" in this period" if times else "")
    first, last = (_day(period[name]) for name in ("first", "last"))
    return (
        f"{counted(facts['requests'], 'request')} to tiered, {first} to {last}, "
        f"with {settings_name(facts['settings'])}"
    )


def _day(when: str) -> str:
    try:
        return str(parse_time(when).astimezone().date())
    except (ValueError, TypeError, OverflowError):
        return "an unknown time"


def _moved(facts: Facts) -> str:
    moved, now = facts["moved"], facts["moved_with_present_settings"]
    if not moved:
        return "all of them would go where they went"
    line_ = f"{moved:,} ({percent(facts['moved_share'])}) would go elsewhere"
    return f"{line_}, {now:,} of them with your present settings, too" if now else line_


def _tier(tier: Facts) -> list[str]:
    before, after = tier["before"], tier["after"]
    return [
        tier["tier"],
        tier["complexity"] or "",
        *(f"{each['requests']:,} ({percent(each['share'])})" for each in (before, after)),
        *(_cost(each["cost"]) for each in (before, after)),
    ]


def _total(facts: Facts) -> list[str]:
    cost = facts["cost"]
    return ["all", "", f"{facts['requests']:,}", "", _cost(cost["before"]), _cost(cost["after"])]


def _move(move: Facts) -> list[str]:
    quality = move["quality"]
    return [
        f"{move['requests']:,}",
        *(_cost(move["cost"][side]) for side in ("before", "after")),
        *(good(quality[side]) for side in ("before", "after")),
    ]


def _cost(cost: Facts) -> str:
    known = None if cost["dollars"] is None else Decimal(cost["dollars"])
    missing = cost["uncounted_requests"] + cost["unpriced_requests"]
    return dollars(known) + ("*" if missing and known is not None else "")


def _echo_examples(facts: Facts, database: sqlite3.Connection) -> None:
    """Print a few requests of each move."""
    shown = [move | {"examples": move["examples"][:EXAMPLES]} for move in facts["moves"]]
    ids = [example["id"] for move in shown for example in move["examples"]]
    texts = {answer.id: answer.prompt.text for answer in answers.by_ids(database, ids)}
    for move in shown:
        click.echo(f"for example {move_name(move)}")
        for example in move["examples"]:
            start = line(texts.get(example["id"], ""), WIDTH)
            click.echo(f"  {example['id']}  " + (f'"{start}"' if start else ""))
            click.echo(f"      {line(example['reason'], REASON)}")
