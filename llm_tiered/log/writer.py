"""Prompts made through the Python API, written to llm's log as its command line does."""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from ..paths import log_path, logs_off_path

if TYPE_CHECKING:
    from pathlib import Path

    from llm.models import _BaseResponse

logger = logging.getLogger("llm_tiered")

# Seconds for which a log that another process is writing to is tried again.
PATIENCE = 30.0


def wanted(*, log_api: bool) -> bool:
    """Whether a prompt made now has to be logged here: llm's own commands log theirs."""
    if not log_api or logs_off_path().exists():
        return False
    context = click.get_current_context(silent=True)
    return context is None or not _logs_itself(context)


def _logs_itself(context: click.Context) -> bool:
    import sys

    llm_cli: Any = sys.modules.get("llm.cli")
    return llm_cli is not None and context.command in (llm_cli.prompt, llm_cli.chat)


def write(response: _BaseResponse) -> None:
    """Add a finished response to the log, waiting for other writers as long as it takes.

    A log that can't be written to is a warning: the answer is there, and is not lost with it.
    """
    path = log_path()
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            _write(path, response)
        except Exception as error:
            if "locked" in str(error) and time.monotonic() < give_up:
                # Two writers that both read first can't wait for each other: one starts over.
                time.sleep(random.uniform(0.01, 0.1))  # noqa: S311 - no secret
                continue
            logger.warning("the answer could not be logged in %s: %s", path, error)
        return


def _write(path: Path, response: _BaseResponse) -> None:
    import filelock
    import sqlite_utils

    # llm brings a log up to date when it opens it; two processes that do so at once spoil it.
    lock = filelock.FileLock(path.with_name("logs.db.lock"), timeout=PATIENCE)
    with lock, closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
        response.log_to_db(sqlite_utils.Database(connection))
