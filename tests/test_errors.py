"""Everything this package raises on purpose."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

import click
from click.testing import CliRunner

from llm_tiered import errors
from llm_tiered.cli import LazyGroup
from llm_tiered.errors import RequestError, TieredError

if TYPE_CHECKING:
    import pytest

ERRORS: list[type[TieredError]] = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, TieredError)
]


def test_drawing_shows_the_tree() -> None:
    """The tree at the top of the module shows all classes and their bases."""
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines()[2:]:
        match = re.match(r"([│├└─ ]*)([\w.]+)", line)
        assert match is not None
        depth, name = len(match[1]) // 4, match[2].rpartition(".")[2]
        above[depth:] = [name]
        if depth:
            drawn[name] = above[depth - 1]
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in ERRORS}


def test_drawing_says_what_the_classes_say() -> None:
    """The tree repeats the first line of each class's docstring."""
    drawing = " ".join((errors.__doc__ or "").split()).casefold()
    lines = {kind: inspect.cleandoc(kind.__doc__ or "").splitlines()[0] for kind in ERRORS}
    missing = [kind for kind, line in lines.items() if line.rstrip(".").casefold() not in drawing]
    assert missing == []


def test_commands_show_every_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a command raises on purpose ends it with a line and exit code 1."""
    wrong = {}
    for kind in ERRORS:

        def fail(kind: type[TieredError] = kind) -> None:
            raise kind("the disk is full", fix="llm tiered models remove mlx/x")

        command = click.Command("route", callback=fail)
        monkeypatch.setattr(LazyGroup, "get_command", lambda *_, command=command: command)
        result = CliRunner().invoke(LazyGroup("tiered"), ["route"])
        line = "Error: the disk is full (llm tiered models remove mlx/x)\n"
        if (result.exit_code, result.output) != (1, line):
            wrong[kind] = (result.exit_code, result.output, result.exception)
    assert wrong == {}


def test_an_error_has_a_message_and_a_fix() -> None:
    """The fix is shown in brackets after the message, where there is one."""
    error = RequestError("the disk is full", fix="make room")
    assert (error.message, error.fix, str(error)) == (
        "the disk is full",
        "make room",
        "the disk is full (make room)",
    )
    assert str(RequestError("the disk is full")) == "the disk is full"
