"""Charts as SVG: all shapes are inside the picture, for any numbers."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

import pytest

from llm_tiered.dashboard import drawing
from llm_tiered.dashboard.drawing import Picture, Series

if TYPE_CHECKING:
    from llm_tiered.svg import Element

DAYS = [date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 30)]


def inside(picture: Picture) -> bool:
    """Return whether every absolute position is within the picture."""
    places = [
        (float(x), float(y))
        for path in picture.shapes
        for x, y in re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", d(path))
    ]
    places += [(float(text.attributes["x"]), float(text.attributes["y"])) for text in picture.texts]
    return all(0 <= x <= picture.width and 0 <= y <= picture.height for x, y in places)


def d(path: Element) -> str:
    """Return the drawing commands of a path."""
    return str(path.attributes["d"])


def kinds(picture: Picture) -> list[str | float]:
    """Return the CSS classes of the shapes."""
    return [shape.attributes["class"] for shape in picture.shapes]


def number(value: float, step: float) -> str:
    """Return a number as text."""
    assert step > 0
    return f"{value:g}"


@pytest.mark.parametrize(
    "values",
    [[0, 0, 0], [1, 2, 3], [-5, 0, 2], [1e-9, 2e-9, 2e-9], [1e9, 3e9, 2e9], [-3, -2, -1]],
    ids=str,
)
@pytest.mark.parametrize("days", [3, 1], ids="{} days".format)
def test_lines(values: list[float], days: int) -> None:
    """Lines stay inside for one day or several, for small, large, negative and zero amounts."""
    picture = drawing.lines(DAYS[:days], [Series("saved", values[:days])], number)
    assert inside(picture)
    assert kinds(picture)[-2:] == ["saved", "saved dot"]


def test_the_axis_has_round_numbers() -> None:
    """The grid lines are at round values, each with its value beside it."""
    picture = drawing.lines(DAYS, [Series("saved", [0.0, 0.3, 0.47])], number)
    ticks = [text.content for text in picture.texts if text.attributes["text-anchor"] == "end"]
    assert ticks[:-1] == ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]


@pytest.mark.parametrize("days", [3, 1], ids="{} days".format)
def test_columns(days: int) -> None:
    """The series of a day are stacked, and a day without requests has no column."""
    series = [Series("here", [2, 0, 1][:days]), Series("cloud", [1, 0, 1][:days])]
    picture = drawing.columns(DAYS[:days], series, number)
    assert inside(picture)
    here, cloud = map(d, picture.shapes[-2:])
    assert here.count("z") == cloud.count("z") == min(days, 2)
    bottom = drawing.PLOT_HEIGHT - drawing.BOTTOM
    heights = [float(high) for high in re.findall(r"v([\d.]+)", here + cloud)]
    top = min(float(y) for y in re.findall(r"M[\d.]+,([\d.]+)", cloud))
    assert bottom - top == pytest.approx(heights[0] + heights[min(days, 2)], abs=0.2)


def test_columns_centuries_apart() -> None:
    """Days that are centuries apart, from wrong clocks, are drawn too."""
    days = [date(1, 1, 1), date(2026, 11, 1), date(9999, 12, 31)]
    assert inside(drawing.columns(days, [Series("here", [1, 2, 3])], number))


def test_bars() -> None:
    """The longest bar fills the width, and the others are in proportion."""
    series = [Series("here", [4, 1]), Series("cloud", [0, 1])]
    picture = drawing.bars([("medium", "4"), ("small", "2")], series)
    assert inside(picture)
    widths = [
        float(d(path).partition("h")[2].partition("v")[0])
        for path in picture.shapes
        if path.attributes["class"] != "track"
    ]
    assert widths == [drawing.WIDTH, drawing.WIDTH / 4, drawing.WIDTH / 4]
    assert [text.content for text in picture.texts] == ["medium", "4", "small", "2"]


def test_bars_of_nothing() -> None:
    """If all values are zero, no bar is drawn."""
    picture = drawing.bars([("medium", "0")], [Series("here", [0])])
    assert kinds(picture) == ["track"]
