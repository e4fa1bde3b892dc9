"""A comparison as one self-contained HTML file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .figures import cells, distinct_answers, headers, notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .runs import Column, CompareRequest

_LONGEST_TITLE = 60


def page(request: CompareRequest, columns: Sequence[Column]) -> str:
    """Return the page. Prompts and answers appear in it as text, never as markup."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("llm_tiered.compare"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    schema = request.schema and json.dumps(request.schema, indent=2, ensure_ascii=False)
    return environment.get_template("page.html").render(
        title=_title(request.prompt),
        request=request,
        schema=schema,
        columns=columns,
        headers=headers(columns),
        cells=cells,
        notes=notes,
        distinct_answers=distinct_answers,
    )


def _title(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= _LONGEST_TITLE else f"{line[:_LONGEST_TITLE]}…"
