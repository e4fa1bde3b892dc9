"""`llm tiered feedback`: the user's marks on answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import RequestError
from ..log import answers, feedback
from ..log.database import reading
from ..paths import log_path
from ..wording import line
from .output import echo_json, echo_table, json_option

if TYPE_CHECKING:
    from ..log.answers import LoggedAnswer
    from ..log.feedback import Verdict

# Characters of a prompt to show.
WIDTH = 50

_id = click.argument("start", metavar="[ID]", required=False)
_note = click.option("--note", metavar="TEXT", help="Note for yourself, such as the reason")


@click.group("feedback")
def command() -> None:
    """Mark answers as good enough or not.

    ID is the id of an answer in llm's log, or the beginning of one; the default is the last answer
    from `tiered`. `llm tiered learn` learns from the marks.
    """


@command.command()
@_id
@_note
def up(start: str | None, note: str | None) -> None:
    """Mark an answer as good enough."""
    _mark(start, "up", note)


@command.command()
@_id
@_note
def down(start: str | None, note: str | None) -> None:
    """Mark an answer as not good enough."""
    _mark(start, "down", note)


@command.command()
@_id
def remove(start: str | None) -> None:
    """Remove the mark of an answer."""
    # Not looked up in the log: a marked answer may no longer be there.
    prefix = start.lower() if start else _answer(None).id
    ids = [turn for turn in feedback.marks() if turn.startswith(prefix)]
    if len(ids) != 1:
        many = f"more than one marked answer has an id that begins with {prefix}"
        reason = many if ids else f"{prefix} has no mark"
        raise RequestError(reason, fix="llm tiered feedback list")
    feedback.remove_mark(ids[0])
    click.echo(f"mark removed: {ids[0]}")


@command.command("list")
@json_option
def list_(json_: bool) -> None:
    """List the marks, latest first."""
    marks = feedback.marks()
    logged: dict[str, LoggedAnswer] = {}
    log = log_path()
    if marks and log.exists():
        with reading(log) as database:
            logged = {answer.id: answer for answer in answers.by_ids(database, list(marks))}
    rows: list[dict[str, Any]] = []
    for turn, mark in marks.items():
        answer = logged.get(turn)
        rows.append(
            {
                "id": turn,
                "mark": mark.verdict,
                "when": mark.when,
                "tier": answer and answer.tier,
                "model": answer and answer.model,
                "prompt": answer and answer.prompt.text,
                "note": mark.note,
            }
        )
    if json_:
        echo_json(rows)
        return
    if not rows:
        click.echo("no marks yet")
        return
    echo_table(
        [
            [row["id"], row["mark"], row["tier"] or "(gone)", _short(row["prompt"]), row["note"]]
            for row in rows
        ]
    )


def _mark(start: str | None, verdict: Verdict, note: str | None) -> None:
    answer = _answer(start)
    feedback.set_mark(answer.id, verdict, note)
    click.echo(f"{verdict}: {_describe(answer)}")


def _answer(start: str | None) -> LoggedAnswer:
    with reading(log_path()) as database:
        return answers.find(database, start)


def _describe(answer: LoggedAnswer) -> str:
    return f"{answer.id}, {_short(answer.prompt.text)}, answered by {answer.model}"


def _short(text: str | None) -> str:
    start = line(text or "", WIDTH)
    return f'"{start}"' if start else ""
