"""The replay of a log: its requests through other settings, and the report on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config.settings import load_settings
from ..costs.periods import WITHIN
from ..errors import TieredError
from ..log import feedback
from ..log.database import has_requests, reading
from ..log.turns import LoggedConversations, left_out
from .again import Replay
from .evidence import Known
from .past_request import DAMAGED_TIME
from .report import ReplayReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from ..config.settings import Settings
    from ..costs.periods import Period
    from ..log.turns import TurnWithPrompt

OLDER = "an older version of llm logged it"

# Keys of the config that change what becomes of a request after its decision.
_NOT_PLAYED = ("fallback", "cache", "budget", "allow_cpu")


def replay_log(  # noqa: PLR0913 - what a replay depends on
    path: Path,
    settings: Settings,
    *,
    period: Period,
    suites: Iterable[Path],
    names: Mapping[str, str],
    model: Any,
    ask_plugins: bool,
    watch: Callable[[LoggedConversations], Iterable[TurnWithPrompt]] = iter,
    on_move: Callable[[dict[str, Any]], Any] = lambda _: None,
) -> ReplayReport:
    """Replay the requests of a period with other settings.

    `suites` are evaluations, `names` the ids of models by all their names, and `model` is `tiered`.
    `watch` yields the turns on, to show how far the replay is. `on_move` is called for each request
    that goes elsewhere. Raises TieredError.
    """
    present = load_settings()
    known = Known(feedback.marks())
    for suite in suites:
        known.add_evaluation(suite)
    again = Replay(settings, present, names, model, ask_plugins=ask_plugins)
    report = ReplayReport(
        settings, known, again.model_id, period=period, compared=settings != present
    )
    with reading(path) as database:
        if not has_requests(database):
            raise TieredError(f"{path} is not an llm log, or is a very old one", fix="llm logs")
        known.add_repeated(database)
        turns = LoggedConversations(database, WITHIN, period.bounds)
        for replayed in again.run(watch(turns)):
            move = report.add(replayed)
            if move:
                on_move(move)
        older, damaged = left_out(database, WITHIN, period.bounds)
    report.leave_out(OLDER, older)
    report.leave_out(DAMAGED_TIME, damaged)
    return report


def not_played(settings: Settings) -> list[str]:
    """Return the keys that differ from the present settings, but that a replay does not play."""
    present = load_settings()
    different = [
        name
        for name in _NOT_PLAYED
        if getattr(settings.config, name) != getattr(present.config, name)
    ]
    return [*different, *(["escalate"] if _escalations(settings) != _escalations(present) else [])]


def _escalations(settings: Settings) -> dict[str, Any]:
    tiers = {f"tiers.{tier.name}": tier.escalate for tier in settings.tiers}
    return tiers | {f"tasks.{name}": task.escalate for name, task in settings.config.tasks.items()}
