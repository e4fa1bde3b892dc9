"""Figures → a bar chart for each kind, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import svg
from .figures import as_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .figures import Figure

WIDTH, MARGIN = 900, 20
LABELS = 300  # x at which the bars begin
NUMBERS = 180  # room for the number after the longest bar
BAR, GAP, TITLE = 16, 8, 34
OURS, OTHERS, INK = "#2563eb", "#9ca3af", "#111827"


def bar_charts(figures: Sequence[Figure]) -> str:
    """Return an SVG file with a chart for each kind of figure; baselines are grey."""
    charts: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        charts.setdefault((figure.label, figure.unit), []).append(figure)
    elements: list[svg.Element] = []
    top = MARGIN
    for (label, unit), group in charts.items():
        chart, top = _chart(top, f"{label}, {unit}", group)
        elements += chart
    return svg.document(WIDTH, top, elements)


def _chart(top: int, title: str, figures: Sequence[Figure]) -> tuple[list[svg.Element], int]:
    """Return the elements of a chart, and the y at which the next one begins."""
    elements = [svg.text(MARGIN, top + BAR, title, fill=INK, font_weight="bold")]
    top += TITLE
    longest = max(max(figure.value, figure.baseline or 0.0) for figure in figures) or 1.0
    for figure in figures:
        label = figure.model or figure.note or figure.part
        elements.append(svg.text(MARGIN, top + BAR - 4, label, fill=INK))
        number = as_text(figure.value, figure.unit)
        elements += _bar(top, figure.value / longest, number, OURS)
        top += BAR
        if figure.baseline is not None:
            number = f"{as_text(figure.baseline, figure.unit)} {figure.against}"
            elements += _bar(top, figure.baseline / longest, number, OTHERS)
            top += BAR
        top += GAP
    return elements, top + GAP


def _bar(top: int, share: float, number: str, colour: str) -> list[svg.Element]:
    """Return a bar and the number after it; `share` is its length relative to the longest."""
    # A difference may be negative: its bar is a line.
    width = max((WIDTH - LABELS - NUMBERS - MARGIN) * share, 1.0)
    return [
        svg.rectangle(LABELS, top, width, BAR - 2, fill=colour),
        svg.text(LABELS + width + 6, top + BAR - 4, number, fill=INK),
    ]
