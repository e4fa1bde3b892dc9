from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from llm_tiered.dashboard import figures
from tests.cli.commands import configure, tier
from tests.dashboard.browsing import Site, opened
from tests.dashboard.texts import add_texts
from tests.make_log import MODELS, add, attempt, empty_log, turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FLASH = "gemini/gemini-2.5-flash"
NOW = datetime.now(timezone.utc) - timedelta(minutes=5)
HOUR = timedelta(hours=1)

ASKED, ANSWERED = "What is a tritone substitution?", "A dominant seventh a tritone away."


@pytest.fixture(autouse=True)
def _config_read_anew() -> None:
    """Forget what the last test's config said, which is kept for a minute."""
    figures._configured.cache_clear()


@pytest.fixture
def log(logs: Path) -> Path:
    """An empty log, and a config whose cloud tier is a model with a known price."""
    empty_log(logs)
    configure(tier("medium", "1-7", MODELS["medium"]), tier("cloud", "8-10", FLASH))
    return logs


@pytest.fixture
def filled(log: Path) -> Path:
    """Four requests: answered here, in the cloud, in the cloud for want of room, by the cache."""
    no_room = [attempt("medium", MODELS["medium"], "no room"), attempt("cloud", FLASH)]
    rows = [
        turn(NOW - 40 * HOUR, id="1-here", task="theory_analysis"),
        turn(NOW - 30 * HOUR, id="2-cloud", model=FLASH, tier="cloud"),
        turn(NOW - 20 * HOUR, id="3-fell", model=FLASH, attempts=no_room),
        turn(NOW - 10 * HOUR, id="4-again", cached_from="1-here", ms=3),
    ]
    add(log, rows)
    add_texts(log, {row["id"]: (ASKED, ANSWERED) for row in rows})
    return log


@pytest.fixture
def browse() -> Iterator[Callable[..., Site]]:
    """Open databases in Datasette, in this process; they are closed with the test."""
    with ExitStack() as stack:
        yield lambda *paths, **settings: stack.enter_context(opened(*paths, **settings))
