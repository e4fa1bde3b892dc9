"""Writes prompts made through the Python API to llm's log, as llm's command line does."""

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

# Seconds to wait for another process that is writing to the log.
PATIENCE = 30.0


def must_log(*, log_api: bool) -> bool:
    """Return whether a prompt made now has to be logged here: llm's own commands log theirs.

    `log_api` is the setting of that name.
    """
    if not log_api or logs_off_path().exists():
        return False
    context = click.get_current_context(silent=True)
    return context is None or not _logs_itself(context)


def _logs_itself(context: click.Context) -> bool:
    import sys

    llm_cli: Any = sys.modules.get("llm.cli")
    return llm_cli is not None and context.command in (llm_cli.prompt, llm_cli.chat)


def write(response: _BaseResponse) -> None:
    """Add a finished response to the log, waiting for other writers if necessary.

    If the log can't be written, log a warning: the caller still gets the answer.
    """
    path = log_path()
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            _write(path, response)
        except Exception as error:
            if "locked" in str(error) and time.monotonic() < deadline:
                # Two transactions that both began by reading block each other: retry this one.
                time.sleep(random.uniform(0.01, 0.1))  # noqa: S311 - not cryptographic
                continue
            logger.warning("the answer could not be logged in %s: %s", path, error)
        return


def _write(path: Path, response: _BaseResponse) -> None:
    import filelock
    import sqlite_utils

    # llm migrates a log when it opens it; two processes doing so at the same time would damage it.
    lock = filelock.FileLock(path.with_name("logs.db.lock"), timeout=PATIENCE)
    with lock, closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
        response.log_to_db(sqlite_utils.Database(connection))
