"""Everything this package raises on purpose."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

import llm
import pytest

from llm_tiered import errors

if TYPE_CHECKING:
    from llm_tiered.errors import TieredError

ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]


def test_drawing_shows_the_tree() -> None:
    """The tree at the top of the module is that of the classes, all of them."""
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


@pytest.mark.parametrize("kind", ERRORS)
def test_llm_knows_how_to_show_it(kind: type[TieredError]) -> None:
    """Every error is one that llm shows to people without a traceback."""
    assert issubclass(kind, llm.ModelError)


@pytest.mark.parametrize("kind", ERRORS)
def test_words(kind: type[TieredError]) -> None:
    """An error says what happened, and in brackets what mends it."""
    assert str(kind("the disk is full")) == "the disk is full"
    error = kind("the disk is full", fix="llm tiered models remove mlx/x")
    assert str(error) == "the disk is full (llm tiered models remove mlx/x)"
    assert error.message == "the disk is full"
    assert error.fix == "llm tiered models remove mlx/x"
