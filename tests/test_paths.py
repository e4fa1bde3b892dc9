"""Where files are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_tiered import paths

if TYPE_CHECKING:
    from pathlib import Path


def test_all_files_are_in_llms_user_directory(user_path: Path) -> None:
    """Each file has the place that earlier versions gave it."""
    places = {
        name: function().relative_to(user_path).as_posix()
        for name, function in vars(paths).items()
        if name.endswith(("_path", "_folder")) and not name.startswith("_")
    }
    assert places == {
        "log_path": "logs.db",
        "logs_off_path": "logs-off",
        "keys_path": "keys.json",
        "aliases_path": "aliases.json",
        "model_options_path": "model_options.json",
        "config_path": "tiered/config.yaml",
        "cache_index_path": "tiered/cache.db",
        "ledger_path": "tiered/costs.db",
        "sums_folder": "tiered/sums",
        "feedback_path": "tiered/feedback.db",
        "replays_path": "tiered/replays.db",
        "learned_path": "tiered/estimator.json",
        "previous_learned_path": "tiered/estimator-before.json",
        "kv_folder": "tiered/kv",
        "servers_folder": "tiered/servers",
        "engine_folder": "tiered/engine",
        "endpoints_folder": "tiered/endpoints",
        "embedded_models_folder": "tiered/models",
    }


def test_removed_user_directory_is_made_again(user_path: Path) -> None:
    """The directory exists after each call, as with llm's own function."""
    assert paths.log_path().parent == user_path
    user_path.rmdir()
    assert paths.log_path().parent == user_path
    assert user_path.is_dir()
