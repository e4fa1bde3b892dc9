"""llm's command line as the process in which the plugin runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llm_tiered import command_line
from llm_tiered.errors import TieredError
from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import MlxModel
from tests.cli.commands import run

if TYPE_CHECKING:
    from tests.toys import Ask

# A process that is llm's command line, as far as can be seen. What is registered first is called
# last at exit.
LLM = f"""
import atexit, gc, sys, types
atexit.register(lambda: print("spared" if gc.get_freeze_count() else "freed"))
sys.modules["llm.cli"] = types.SimpleNamespace(cli=print)
# Without the package around it, which imports llm.
sys.path.insert(0, {str(Path(command_line.__file__).parent)!r})
import command_line
"""


def at_exit(code: str) -> str:
    """What becomes of the objects of such a process, after it has run some code."""
    done = subprocess.run(
        [sys.executable, "-c", LLM + code], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("more", ["", "file = open(sys.executable, 'rb')"], ids=["none", "read"])
def test_frees_nothing_at_exit(more: str) -> None:
    """The command line of llm ends without freeing all its objects first."""
    assert at_exit(f"{more}\ncli = print; command_line.end_soon()") == "spared"


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("", id="a program that imports llm"),
        pytest.param("cli = print; sys.modules['mlx.core'] = sys", id="MLX is in use"),
    ],
)
def test_frees_everything(code: str) -> None:
    """Other programs, and MLX, rely on Python's own way to end."""
    assert at_exit(f"{code}\ncommand_line.end_soon()") == "freed"


def test_files_that_are_open_are_written(tmp_path: Path) -> None:
    """What a plugin has written into a file that it never closes is not lost."""
    path = tmp_path / "file"
    (tmp_path / "plugin.py").write_text(
        f"file = open({str(path)!r}, 'w')\nfile.write('everything')\ndef hook(): return file"
    )
    code = f"""
sys.path.insert(0, {str(tmp_path)!r})
cli = print
import plugin
command_line.end_soon()
"""
    assert at_exit(code) == "freed"
    assert path.read_text() == "everything"


def test_command(user_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of `llm tiered` asks for that."""
    asked: list[bool] = []
    monkeypatch.setattr(command_line, "end_soon", lambda: asked.append(True))
    run("ps")
    assert asked == [True]


async def test_prompt_of_tiered(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of `tiered` asks for it as well."""
    asked: list[bool] = []
    monkeypatch.setattr(command_line, "end_soon", lambda: asked.append(True))
    await ask("Hello", complexity=2)
    assert asked == [True]


def test_prompt_of_a_local_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of a local model asks for it, too, whatever comes of it."""
    asked: list[bool] = []
    monkeypatch.setattr(command_line, "end_soon", lambda: asked.append(True))
    model = MlxModel(ModelSpec("mlx/none", path=tmp_path), Limits, lambda _: None)
    with pytest.raises(TieredError):
        model.prompt("Hello").text()
    assert asked == [True]
