"""`llm tiered replay`: what other settings would have done with the requests in the log."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import llm

from ..config.changed import changed_settings
from ..config.settings import ENVIRONMENT
from ..costs.periods import period_of
from ..log import replays
from ..log.database import reading
from ..paths import log_path
from ..replay.run import not_played, replay_log
from .lookup import tiered_model
from .output import check_folder, echo_json, echo_note, json_option
from .replayed import echo_report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..log.turns import LoggedConversations, TurnWithPrompt

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("replay")
@click.option("--since", metavar="WHEN", help="Only requests from this time on")
@click.option("--until", metavar="WHEN", help="Only requests up to this time")
@click.option(
    "config", "--config", type=_FILE, metavar="FILE", help="Config file to use instead of yours"
)
@click.option(
    "changes",
    "--set",
    multiple=True,
    metavar="KEY=VALUE",
    help="Value to change, such as tiers.medium.complexity=4-8",
)
@click.option(
    "suites",
    "--eval",
    type=_FILE,
    multiple=True,
    metavar="FILE",
    help="Suite of `llm tiered eval` whose scores count",
)
@click.option(
    "--moves",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write every request that would go elsewhere to this file, as JSONL",
)
@click.option(
    "--ask-plugins", is_flag=True, help="Let other plugins estimate prompts, as for a new request"
)
@json_option
def command(  # noqa: PLR0913, PLR0917 - one for each option
    since: str | None,
    until: str | None,
    config: Path | None,
    changes: tuple[str, ...],
    suites: tuple[Path, ...],
    moves: Path | None,
    ask_plugins: bool,
    json_: bool,
) -> None:
    """Show where the requests in the log would go with other settings, without calling a model.

    Give the settings as a config file, as single values, or both. Without either, your present
    settings are replayed: then requests move because the config or the estimate has changed since.

    \b
    llm tiered replay --since 30d --set tiers.medium.complexity=4-8
    llm tiered replay --set 'rules.contracts={words: contract, tier: cloud}'
    llm tiered replay --config other.yaml --moves moves.jsonl

    KEY is the path of a value; entries of lists go by their names, or by their numbers from 1.
    VALUE is YAML. If the range of a tier changes, its neighbours make room. WHEN is as for
    `savings`.

    Conversations are replayed from their first turn. The cost is that of the tokens of the answers
    in the log, at the prices of the day: other models would count and write differently, but by how
    much is not known. "Good" is the share of good answers among those that you have marked, that
    were checked (escalate) or evaluated, with a 95% confidence interval.

    The report is kept, without prompts, for the page of `llm tiered datasette`.
    """  # noqa: D301 - click needs the character itself
    model = tiered_model()
    settings = changed_settings(config, changes)
    period = period_of(since, until)
    if moves:
        check_folder(moves)
    names = {name: each.model_id for name, each in llm.get_model_aliases().items()}
    with moves.open("w", encoding="utf-8") if moves else nullcontext() as file:
        report = replay_log(
            log_path(),
            settings,
            period=period,
            suites=suites,
            names=names,
            model=model,
            ask_plugins=ask_plugins,
            watch=_with_bar,
            on_move=lambda move: file.write(json.dumps(move) + "\n") if file else None,
        )
    facts: dict[str, Any] = {
        "settings": {
            "config": config and str(config),
            "changes": list(changes),
            "environment": [name for name in ENVIRONMENT if os.environ.get(name)],
            "not_played": not_played(settings),
        }
    } | report.as_dict()
    _save(facts)
    if json_:
        echo_json(facts)
        return
    with reading(log_path()) as database:
        echo_report(facts, database)


def _with_bar(turns: LoggedConversations) -> Iterator[TurnWithPrompt]:
    """Yield the turns, with a bar on a terminal."""
    from tqdm import tqdm

    with tqdm(
        total=turns.counted, desc="replaying", file=sys.stderr, disable=None, leave=False
    ) as bar:
        for turn in turns:
            yield turn
            bar.update(turn.counted)


def _save(facts: dict[str, Any]) -> None:
    try:
        replays.save(log_path(), facts)
    except (OSError, sqlite3.Error) as error:
        echo_note(f"the report is not kept for the dashboard: {error}")
