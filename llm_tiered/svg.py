"""SVG pictures: elements with escaped text, and whole files made of them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NAMESPACE = "http://www.w3.org/2000/svg"


@dataclass(frozen=True)
class Element:
    """An element; `attributes` are text or numbers, `content` is text."""

    name: str
    attributes: dict[str, str | float]
    content: str = ""

    def __str__(self) -> str:
        """Return the element as SVG."""
        attributes = _attributes(self.attributes)
        return f"<{self.name}{attributes}>{escape(self.content)}</{self.name}>"

    # A template inserts the element as it is, without escaping it again.
    __html__ = __str__


def text(
    x: float, y: float, content: str, *, anchor: str = "start", **attributes: str | float
) -> Element:
    """Return text at a position; `anchor` (start, middle, end) is which part of it is at x."""
    return _element("text", content, x=x, y=y, text_anchor=anchor, **attributes)


def rectangle(
    x: float, y: float, width: float, height: float, **attributes: str | float
) -> Element:
    """Return a rectangle from its upper left corner."""
    return _element("rect", x=x, y=y, width=width, height=height, **attributes)


def circle(x: float, y: float, radius: float, **attributes: str | float) -> Element:
    """Return a circle around a point."""
    return _element("circle", cx=x, cy=y, r=radius, **attributes)


def polyline(points: Iterable[tuple[float, float]], **attributes: str | float) -> Element:
    """Return a line through the points."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return _element("polyline", points=places, fill="none", **attributes)


def path(d: str, **attributes: str | float) -> Element:
    """Return a path from its drawing commands."""
    return _element("path", d=d, **attributes)


def document(width: int, height: int, elements: Iterable[Element], *, font_size: int = 12) -> str:
    """Return a whole file: the elements on white, later ones in front."""
    root = _attributes(
        {
            "xmlns": NAMESPACE,
            "width": width,
            "height": height,
            "viewBox": f"0 0 {width} {height}",
            "font-family": "sans-serif",
            "font-size": font_size,
        }
    )
    background = rectangle(0, 0, width, height, fill="#fff")
    return "\n".join([f"<svg{root}>", *map(str, (background, *elements)), "</svg>"]) + "\n"


def linear_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return a function that maps values from `low` to `high` to places from `start` to `end`.

    If there is only one value, it is at `start`.
    """
    length = (high - low) or 1.0
    return lambda value: start + (end - start) * ((value - low) / length)


def _element(name: str, content: str = "", /, **attributes: str | float) -> Element:
    """Return an element; `class_` and `stroke_width` are its attributes class and stroke-width."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    return Element(name, named, content)


def _attributes(attributes: dict[str, str | float]) -> str:
    return "".join(f' {name}="{escape(_written(value))}"' for name, value in attributes.items())


def _written(value: str | float) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
