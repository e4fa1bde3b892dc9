"""A comparison as one HTML file that needs nothing else."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING

from . import figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .runs import Column, Question

STYLE = """\
:root { color-scheme: light dark; --line: #d4d4d8; --soft: #f4f4f5; --quiet: #52525b; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3f3f46; --soft: #27272a; --quiet: #a1a1aa; }
}
body { font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem; }
h1 { font-size: 1.25rem; margin: 0 0 1rem; }
h2 { font-size: 1.1rem; margin: 0; }
pre { font: inherit; margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.asked, article { border: 1px solid var(--line); border-radius: 8px; padding: 1rem; }
.asked { background: var(--soft); margin-bottom: 1rem; }
.columns { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.quiet, dt { color: var(--quiet); font-size: .875rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .75rem; margin: .75rem 0;
  padding: .75rem 0; border: solid var(--line); border-width: 1px 0; }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.note { color: #b91c1c; margin: .5rem 0; }
@media (prefers-color-scheme: dark) { .note { color: #fca5a5; } }
details { margin-top: .75rem; }
"""


def page(question: Question, columns: Sequence[Column]) -> str:
    """The whole page. What people and models wrote is text in it, never markup."""
    runs = "" if question.runs == 1 else f": {question.runs} runs each, median (least to most)"
    schema = question.schema and json.dumps(question.schema, indent=2, ensure_ascii=False)
    asked = [
        ("System prompt", question.system),
        ("Prompt", question.prompt),
        ("Schema", schema),
    ]
    names = figures.headers(columns)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Nothing in the page is ever fetched or run, whatever an answer holds.
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape(_title(question.prompt))}</title>",
            f"<style>\n{STYLE}</style></head>",
            f"<body><h1>{escape(', '.join(column.tier for column in columns))}{runs}</h1>",
            '<section class="asked">',
            *(
                f'<div class="quiet">{name}</div><pre>{escape(text)}</pre>'
                for name, text in asked
                if text
            ),
            '</section><main class="columns">',
            *(_column(column, names) for column in columns),
            "</main></body></html>\n",
        ]
    )


def _column(column: Column, names: Sequence[str]) -> str:
    first, *others = figures.different(column) or [""]
    cells = zip(names, figures.cells(column), strict=False)
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(cell)}</dd>" for name, cell in cells)
    more = [
        f"<details><summary>another answer</summary><pre>{escape(text)}</pre></details>"
        for text in others
    ]
    return "\n".join(
        [
            f"<article><h2>{escape(column.tier)}</h2>",
            f'<div class="quiet">{escape(column.model)}</div>',
            f"<dl>{facts}</dl>" if facts else "",
            *(f'<p class="note">{escape(note)}</p>' for note in figures.notes(column)),
            f"<pre>{escape(first)}</pre>",
            *more,
            "</article>",
        ]
    )


def _title(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= 60 else f"{line[:60]}…"
