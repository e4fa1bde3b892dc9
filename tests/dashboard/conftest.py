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

PROMPT, ANSWER = "What is a tritone substitution?", "A dominant seventh a tritone away."


@pytest.fixture(autouse=True)
def _config_of_this_test() -> None:
    """Forget the config of the last test, which is cached for a minute."""
    figures._comparison.cache_clear()


@pytest.fixture
def log(logs: Path) -> Path:
    """An empty log, and a config whose cloud tier is a model with a known price."""
    empty_log(logs)
    configure(tier("medium", "1-7", MODELS["medium"]), tier("cloud", "8-10", FLASH))
    return logs


@pytest.fixture(scope="session")
def four_requests(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Four requests: answered locally, in the cloud, in the cloud as a fallback, from the cache."""
    log = tmp_path_factory.mktemp("log") / "logs.db"
    empty_log(log)
    no_room = [attempt("medium", MODELS["medium"], "no room"), attempt("cloud", FLASH)]
    rows = [
        turn(NOW - 40 * HOUR, id="1-here", task="theory_analysis"),
        turn(NOW - 30 * HOUR, id="2-cloud", model=FLASH, tier="cloud"),
        turn(NOW - 20 * HOUR, id="3-fell", model=FLASH, attempts=no_room),
        turn(NOW - 10 * HOUR, id="4-again", cached_from="1-here", ms=3),
    ]
    add(log, rows)
    add_texts(log, {row["id"]: (PROMPT, ANSWER) for row in rows})
    return log.read_bytes()


@pytest.fixture
def filled(log: Path, four_requests: bytes) -> Path:
    """A log with four requests, which the test may change."""
    log.write_bytes(four_requests)
    return log


@pytest.fixture
def browse() -> Iterator[Callable[..., Site]]:
    """Return a function that opens databases in Datasette until the end of the test."""
    with ExitStack() as stack:
        yield lambda *paths, **settings: stack.enter_context(opened(*paths, **settings))
