"""Pictures: shapes inside the frame, whatever the numbers are."""

from __future__ import annotations

import re
from datetime import date

import pytest

from llm_tiered.dashboard import drawing
from llm_tiered.dashboard.drawing import Picture, Series

DAYS = [date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 30)]


def inside(picture: Picture) -> bool:
    """Say whether every place that is named absolutely is within the frame."""
    places = [
        (float(x), float(y))
        for path in picture.paths
        for x, y in re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", path.d)
    ]
    places += [(text.x, text.y) for text in picture.texts]
    return all(0 <= x <= picture.width and 0 <= y <= picture.height for x, y in places)


def number(value: float, step: float) -> str:
    """Write a number."""
    assert step > 0
    return f"{value:g}"


@pytest.mark.parametrize(
    "values",
    [[0, 0, 0], [1, 2, 3], [-5, 0, 2], [1e-9, 2e-9, 2e-9], [1e9, 3e9, 2e9], [-3, -2, -1]],
    ids=str,
)
@pytest.mark.parametrize("days", [3, 1], ids="{} days".format)
def test_lines(values: list[float], days: int) -> None:
    """Lines stay inside for one day and many, for small, large, negative and no amounts."""
    picture = drawing.lines(DAYS[:days], [Series("saved", values[:days])], number)
    assert inside(picture)
    assert [path.kind for path in picture.paths][-2:] == ["saved", "saved dot"]


def test_the_axis_has_round_numbers() -> None:
    """The lines behind are at round values, and the value stands beside each."""
    picture = drawing.lines(DAYS, [Series("saved", [0.0, 0.3, 0.47])], number)
    ticks = [text.text for text in picture.texts if text.anchor == "end"][:-1]
    assert ticks == ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]


@pytest.mark.parametrize("days", [3, 1], ids="{} days".format)
def test_columns(days: int) -> None:
    """Columns stand on each other; a day without any has none."""
    series = [Series("here", [2, 0, 1][:days]), Series("cloud", [1, 0, 1][:days])]
    picture = drawing.columns(DAYS[:days], series, number)
    assert inside(picture)
    here, cloud = (path.d for path in picture.paths[-2:])
    assert here.count("z") == cloud.count("z") == min(days, 2)
    bottom = drawing.PLOT_HEIGHT - drawing.BOTTOM
    heights = [float(high) for high in re.findall(r"v([\d.]+)", here + cloud)]
    top = min(float(y) for y in re.findall(r"M[\d.]+,([\d.]+)", cloud))
    assert bottom - top == pytest.approx(heights[0] + heights[min(days, 2)], abs=0.2)


def test_columns_of_clocks_gone_wrong() -> None:
    """Days that are centuries apart still make a picture."""
    days = [date(1, 1, 1), date(2026, 11, 1), date(9999, 12, 31)]
    assert inside(drawing.columns(days, [Series("here", [1, 2, 3])], number))


def test_bars() -> None:
    """The longest bar fills the width, the others are as long as they are many."""
    series = [Series("here", [4, 1]), Series("cloud", [0, 1])]
    picture = drawing.bars([("medium", "4"), ("small", "2")], series)
    assert inside(picture)
    widths = [
        float(path.d.partition("h")[2].partition("v")[0])
        for path in picture.paths
        if path.kind != "track"
    ]
    assert widths == [drawing.WIDTH, drawing.WIDTH / 4, drawing.WIDTH / 4]
    assert [text.text for text in picture.texts] == ["medium", "4", "small", "2"]


def test_bars_of_nothing() -> None:
    """Where all are zero, no bar is drawn."""
    picture = drawing.bars([("medium", "0")], [Series("here", [0])])
    assert [path.kind for path in picture.paths] == ["track"]
