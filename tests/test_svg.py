"""SVG pictures."""

from __future__ import annotations

from xml.etree.ElementTree import fromstring

import pytest
from markupsafe import escape

from llm_tiered import svg

DANGEROUS = "<b>\"5 < 6\" & 'x'</b>"


def test_document() -> None:
    """A document is XML of its size, with the elements on a white background, in order."""
    elements = [svg.circle(1, 2, 3, fill="red"), svg.text(4.25, 5, "Hello", anchor="end")]
    root = fromstring(svg.document(200, 100, elements))
    assert root.tag == f"{{{svg.NAMESPACE}}}svg"
    assert (root.attrib["width"], root.attrib["height"]) == ("200", "100")
    background, circle, text = root
    assert background.attrib["fill"] == "#fff"
    assert circle.attrib == {"cx": "1", "cy": "2", "r": "3", "fill": "red"}
    assert text.attrib == {"x": "4.2", "y": "5", "text-anchor": "end"}
    assert text.text == "Hello"


def test_text_is_escaped() -> None:
    """Text and attributes with markup in them are still text."""
    element = svg.text(0, 0, DANGEROUS, class_=DANGEROUS)
    parsed = fromstring(str(element))
    assert (parsed.text, parsed.attrib["class"]) == (DANGEROUS, DANGEROUS)


def test_templates_insert_elements() -> None:
    """A template inserts an element without escaping it again."""
    element = svg.polyline([(0, 1), (2.55, 3)], stroke_width=2)
    assert escape(element) == str(element)
    assert str(element) == (
        '<polyline points="0.0,1.0 2.5,3.0" fill="none" stroke-width="2"></polyline>'
    )


def test_paths_and_rectangles() -> None:
    """A path keeps its commands, a rectangle its corner and its size."""
    assert fromstring(str(svg.path("M0,0h9z", class_="grid"))).attrib == {
        "d": "M0,0h9z",
        "class": "grid",
    }
    box = fromstring(str(svg.rectangle(1, 2.0, 3, 4, fill="#000"))).attrib
    assert box == {"x": "1", "y": "2.0", "width": "3", "height": "4", "fill": "#000"}


@pytest.mark.parametrize(
    ("value", "place"), [(0, 100), (5, 60), (10, 20)], ids=["low", "middle", "high"]
)
def test_linear_scale(value: float, place: float) -> None:
    """Values are mapped in proportion, also downwards."""
    assert svg.linear_scale(0, 10, 100, 20)(value) == place


def test_scale_of_one_value() -> None:
    """A single value is at the start of the scale."""
    assert svg.linear_scale(7, 7, 10, 20)(7) == 10
