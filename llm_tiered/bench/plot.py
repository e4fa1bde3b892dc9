"""Figures → bars, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from .figures import as_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .figures import Figure

WIDTH, MARGIN = 900, 20
LABELS = 300  # where bars begin
NUMBERS = 180  # what is left for the number behind the longest bar
BAR, GAP, TITLE = 16, 8, 34
OURS, OTHERS = "#2563eb", "#9ca3af"


def svg(figures: Sequence[Figure]) -> str:
    """A chart for each kind of figure; the grey bar is what it was measured against."""
    charts: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        charts.setdefault((figure.name, figure.unit), []).append(figure)
    root = Element("svg", xmlns="http://www.w3.org/2000/svg", width=str(WIDTH))
    root.set("font-family", "sans-serif")
    root.set("font-size", "12")
    background = SubElement(root, "rect", width="100%", height="100%", fill="#ffffff")
    top = MARGIN
    for (name, unit), group in charts.items():
        top = _chart(root, top, f"{name.replace('_', ' ')}, {unit}", group)
    root.set("height", str(top))
    background.set("height", str(top))
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _chart(root: Element, top: int, title: str, figures: Sequence[Figure]) -> int:
    """Draw a chart; gives where the next one begins."""
    heading = _text(root, MARGIN, top + BAR, title)
    heading.set("font-weight", "bold")
    top += TITLE
    longest = max(max(figure.value, figure.baseline or 0.0) for figure in figures) or 1.0
    for figure in figures:
        _text(root, MARGIN, top + BAR - 4, figure.model or figure.note or figure.part)
        number = as_text(figure.value, figure.unit)
        top = _bar(root, top, figure.value / longest, number, OURS)
        if figure.baseline is not None:
            number = f"{as_text(figure.baseline, figure.unit)} {figure.against}"
            top = _bar(root, top, figure.baseline / longest, number, OTHERS)
        top += GAP
    return top + GAP


def _bar(root: Element, top: int, share: float, number: str, colour: str) -> int:
    # A difference can turn out to be below zero: then there is nothing to draw.
    width = max((WIDTH - LABELS - NUMBERS - MARGIN) * share, 1.0)
    SubElement(
        root,
        "rect",
        x=str(LABELS),
        y=str(top),
        width=f"{width:.1f}",
        height=str(BAR - 2),
        fill=colour,
    )
    _text(root, LABELS + width + 6, top + BAR - 4, number)
    return top + BAR


def _text(root: Element, x: float, y: int, text: str) -> Element:
    element = SubElement(root, "text", x=f"{x:.1f}", y=str(y), fill="#111827")
    element.text = text
    return element
