"""The import time that the plugin adds to llm."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from llm_tiered.bench import startup
from llm_tiered.errors import TieredError

if TYPE_CHECKING:
    from pathlib import Path

# A trace of Python: a module's line follows those of its imports, which are indented.
TRACE = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 |   click
import time:       200 |        300 | llm
import time:         5 |          5 |     llm_tiered.errors
import time:        40 |         40 |     tomllib
import time:        10 |         55 |   llm_tiered.cli
import time:         7 |         62 | llm_tiered
import time:       900 |        900 | llm_gemini
import time:         3 |          3 |     llm_tiered.schema
import time:       400 |        400 |       httpx
import time:       500 |        900 |     llm_gemini.models
import time:        20 |        923 |   llm_tiered.registry
import time:         1 |        924 | llm.models
"""


def test_ours() -> None:
    """The plugin's modules and their imports count, except for llm-gemini and its imports."""
    assert startup.ours(TRACE) == 62 + 923 - 900


def test_everything() -> None:
    """All imports count once."""
    assert startup.everything(TRACE) == 300 + 62 + 900 + 924


def test_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real llm is started; registering the models imports more than the start alone."""
    # The first trace, which warms up, is taken for the one of the same command.
    monkeypatch.setattr(startup, "_trace", cache(startup._trace))
    start, register, listed = startup.start(1)
    assert (start.name, register.name, listed.name) == ("start", "register", "models list")
    assert {figure.unit for figure in (start, register, listed)} == {"ms"}
    assert start.baseline is not None
    assert 0 < start.value < start.baseline
    assert start.value < register.value


def test_llm_that_does_not_start(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If llm can't be started, the last line of its output is the reason."""
    monkeypatch.setenv("LLM_LOAD_PLUGINS", "")  # it fails without them, too, but sooner
    monkeypatch.setenv("LLM_USER_PATH", str(config_file.parent / "config.yaml"))
    config_file.write_text("")
    with pytest.raises(TieredError, match=r"llm models list fails: .*Exists"):
        startup.start(1)
