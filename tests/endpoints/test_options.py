"""The options of a server's model."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from llm_tiered.endpoints.options import ServerOptions
from llm_tiered.router.failures import explain

# What YAML can hold, and no server can be sent.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"since": date(2026, 1, 1)}, "since: expected a value of JSON"),
    ({"min_p": float("nan")}, "min_p: expected a value of JSON"),
    ({"x": {"y": b"z"}}, "x: expected a value of JSON"),
    ({"chat_template_kwargs": "thinking"}, "chat_template_kwargs: expected names and values"),
    ({"n": 2}, "n: expected 1: there is one answer to a prompt"),
    ({"timeout": float("inf")}, "timeout"),
    ({"timeout": 0}, "timeout"),
]


def test_mistakes() -> None:
    """What can't be sent is a mistake in the options, which `config check` finds."""
    for options, expected in WRONG:
        with pytest.raises(ValidationError) as caught:
            ServerOptions(**options)
        assert explain(caught.value).reason.startswith(f"wrong options: {expected}")


def test_other_options() -> None:
    """Options that only the server knows may have any value of JSON."""
    options: dict[str, Any] = {
        "n": 1,
        "min_p": 0.1,
        "chat_template_kwargs": {"a": None},
        "x": [{"y": "ü"}],
    }
    assert ServerOptions(**options).model_extra == options
