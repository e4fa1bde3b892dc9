"""Where llm's own files are, and every file that this package keeps in llm's user directory.

llm loads this whenever it starts, so it imports nothing else.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the user directory depends on. To look at one that is not set takes the longest.
_VARIABLES = (
    ("LLM_USER_PATH", "APPDATA", "LOCALAPPDATA", "USERPROFILE")
    if os.name == "nt"
    else ("LLM_USER_PATH", "HOME", "XDG_CONFIG_HOME")
)


def log_path() -> Path:
    """Llm's log, an SQLite database."""
    return _user_file("logs.db")


def logs_off_path() -> Path:
    """The file that `llm logs off` creates; while it exists, nothing is logged."""
    return _user_file("logs-off")


def keys_path() -> Path:
    """Llm's stored API keys (`llm keys set`)."""
    return _user_file("keys.json")


def aliases_path() -> Path:
    """Llm's aliases (`llm aliases set`)."""
    return _user_file("aliases.json")


def model_options_path() -> Path:
    """The options that the user always wants (`llm models options set`)."""
    return _user_file("model_options.json")


def config_path() -> Path:
    """The config file of this package."""
    return _user_file("tiered", "config.yaml")


def cache_index_path() -> Path:
    """The index of answers that can be repeated, an SQLite database."""
    return _user_file("tiered", "cache.db")


def ledger_path() -> Path:
    """What requests to the cloud cost, an SQLite database."""
    return _user_file("tiered", "costs.db")


def sums_folder() -> Path:
    """The folder of the sums over the requests in logs, an SQLite database for each log."""
    return _user_file("tiered", "sums")


def feedback_path() -> Path:
    """The user's marks on answers, an SQLite database."""
    return _user_file("tiered", "feedback.db")


def replays_path() -> Path:
    """The reports of `llm tiered replay`, an SQLite database."""
    return _user_file("tiered", "replays.db")


def learned_path() -> Path:
    """The estimator's coefficients that `llm tiered learn` has fitted, JSON."""
    return _user_file("tiered", "estimator.json")


def previous_learned_path() -> Path:
    """The coefficients that `llm tiered learn --undo` goes back to, JSON."""
    return _user_file("tiered", "estimator-before.json")


def kv_folder() -> Path:
    """The folder of the KV caches that are kept on disk."""
    return _user_file("tiered", "kv")


def servers_folder() -> Path:
    """The folder of the servers that run (`llm tiered serve`), and of their log files."""
    return _user_file("tiered", "servers")


def engine_folder() -> Path:
    """The folder of the engine's socket, lock and log."""
    return _user_file("tiered", "engine")


def endpoints_folder() -> Path:
    """The folder of what is known about the servers of tiers that failed, a file for each."""
    return _user_file("tiered", "endpoints")


def embedded_models_folder() -> Path:
    """The folder of the models that come from a package index."""
    return _user_file("tiered", "models")


def _user_file(*names: str) -> Path:
    files = _user_files()
    if names not in files:
        files[names] = files[()].joinpath(*names)
    return files[names]


@contextmanager
def held_files() -> Iterator[None]:
    """Keep the user directory for all that this task does in the block, without looking again."""
    token = _held.set(_user_files())
    try:
        yield
    finally:
        _held.reset(token)


def _user_files() -> dict[tuple[str, ...], Path]:
    """The files that were asked for by their names; without a name it is the user directory.

    Llm would try to make that each time, and a prompt asks many times.
    """
    if held := _held.get():
        return held
    values = tuple(map(os.environ.get, _VARIABLES))
    if _known.get("values") != values or not os.path.isdir(_known["files"][()]):
        _known.update(values=values, files={(): Path(llm.user_dir())})
    files: dict[tuple[str, ...], Path] = _known["files"]
    return files


_known: dict[str, Any] = {}
_held: ContextVar[dict[tuple[str, ...], Path] | None] = ContextVar("user directory", default=None)
