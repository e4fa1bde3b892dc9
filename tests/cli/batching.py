"""`llm tiered batch` as tests run it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.cli.commands import run

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from tests.batch.echo import Echoes


def write_rows(tmp_path: Path, *rows: Any, name: str = "rows.jsonl") -> str:
    """Write a file with these rows and return its name. A text is a line, unchanged."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(tmp_path / name)


def small(*prompts: str) -> list[dict[str, Any]]:
    """Rows for the small tier."""
    return [{"prompt": text, "complexity": 2} for text in prompts]


def parse(text: str) -> list[dict[str, Any]]:
    """The answers in an output."""
    return [json.loads(line) for line in text.splitlines()]


def responses(text: str) -> list[str]:
    """The responses and errors in an output."""
    return [answer.get("response") or answer["error"] for answer in parse(text)]


def new_prompts(echoes: Echoes) -> list[str]:
    """The prompts asked since the last call."""
    prompts = [text for _, text in echoes.requests]
    echoes.requests.clear()
    return prompts


def batch(*args: str, code: int = 0) -> Result:
    """Run `llm tiered batch …`."""
    return run("batch", *args, code=code)


def wrong_usage(*args: str) -> str:
    """Run `llm tiered batch …`, expect exit code 2, and return the error at the end of stderr."""
    result = batch(*args, code=2)
    assert result.stdout == ""
    return result.stderr.splitlines()[-1].removeprefix("Error: ")
