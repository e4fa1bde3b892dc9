"""Numbers → SVG charts: lines, columns, and bars with labels."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TYPE_CHECKING, NamedTuple

from .. import svg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

WIDTH = 440

# The margins around lines and columns, for labels.
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 16, 30
PLOT_HEIGHT = 240

# The heights of a bar, of the text above it, and of the gap below it.
BAR, BAR_TEXT, BAR_GAP = 14, 20, 14


class Series(NamedTuple):
    """Values in the order of the days or bars; `kind` is the CSS class that gives the colour."""

    kind: str
    values: Sequence[float]


@dataclass(frozen=True)
class Picture:
    """The elements of a picture, later ones in front, texts in front of shapes."""

    height: int
    shapes: list[svg.Element]
    texts: list[svg.Element]
    width: int = WIDTH


def lines(
    days: Sequence[date], series: Sequence[Series], tick: Callable[[float, float], str]
) -> Picture:
    """Draw a line for each series, with a dot at its end.

    `tick` returns the label at a value of the axis, given the value and the step between values.
    """
    values = [value for line in series for value in line.values]
    y, shapes, texts = _axis(min(0.0, *values), max(values), tick)
    x = _scale_of_days(days, WIDTH - RIGHT)
    texts += _day_labels(days, x, 0)
    for line in series:
        points = [(x(day), y(value)) for day, value in zip(days, line.values, strict=True)]
        d = "M" + " L".join(f"{px:.1f},{py:.1f}" for px, py in points)
        shapes += [svg.path(d, class_=line.kind), _dot(*points[-1], f"{line.kind} dot")]
    return Picture(PLOT_HEIGHT, shapes, texts)


def columns(
    days: Sequence[date], series: Sequence[Series], tick: Callable[[float, float], str]
) -> Picture:
    """Draw a column for each day, with the series stacked; `tick` is as for `lines`."""
    totals = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    y, shapes, texts = _axis(0, max(totals), tick)
    room = (WIDTH - LEFT - RIGHT) / ((days[-1] - days[0]).days + 1)
    width = min(room * 0.8, 40) if room > 3 else room
    x = _scale_of_days(days, WIDTH - RIGHT - room)
    texts += _day_labels(days, x, width)
    below = [0.0] * len(days)
    for one in series:
        d = ""
        for place, (day, value) in enumerate(zip(days, one.values, strict=True)):
            if value:
                top, bottom = y(below[place] + value), y(below[place])
                d += _rectangle(x(day), top, width, bottom - top)
                below[place] += value
        shapes.append(svg.path(d, class_=f"{one.kind} filled"))
    return Picture(PLOT_HEIGHT, shapes, texts)


def bars(labels: Sequence[tuple[str, str]], series: Sequence[Series]) -> Picture:
    """Draw a bar for each label (its text on the left and on the right), with the series in a row.

    The longest bar fills the width.
    """
    totals = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    longest = max(totals, default=0) or 1
    shapes, texts = [], []
    step = BAR_TEXT + BAR + BAR_GAP
    for row, (left, right) in enumerate(labels):
        y = float(row * step + 14)
        texts += [
            svg.text(0.0, y, left, class_="label"),
            svg.text(float(WIDTH), y, right, anchor="end", class_="label faint"),
        ]
        top, x = row * step + BAR_TEXT, 0.0
        shapes.append(svg.path(_rectangle(0, top, WIDTH, BAR), class_="track"))
        for one in series:
            width = one.values[row] / longest * WIDTH
            if width:
                d = _rectangle(x, top, width, BAR)
                shapes.append(svg.path(d, class_=f"{one.kind} filled"))
                x += width
    return Picture(len(labels) * step, shapes, texts)


def _axis(
    low: float, high: float, tick: Callable[[float, float], str]
) -> tuple[Callable[[float], float], list[svg.Element], list[svg.Element]]:
    """Return the scale from values to heights, and a grid line and a label for each round value."""
    step = _round_step((high - low) or 1.0)
    first, last = floor(low / step), max(ceil(high / step), floor(low / step) + 1)
    y = svg.linear_scale(first * step, last * step, PLOT_HEIGHT - BOTTOM, TOP)
    rounds = [number * step for number in range(first, last + 1)]
    shapes = [
        svg.path(f"M{LEFT},{y(value):.1f} H{WIDTH - RIGHT}", class_="grid") for value in rounds
    ]
    texts = [
        svg.text(
            float(LEFT - 8), y(value) + 4, tick(value, step), anchor="end", class_="label faint"
        )
        for value in rounds
    ]
    return y, shapes, texts


def _round_step(size: float) -> float:
    """Return a round number that goes into the size three to six times."""
    power = 10.0 ** floor(log10(size))
    return next(power * part for part in (0.2, 0.5, 1.0, 2.0) if size / part <= 6 * power)


def _scale_of_days(days: Sequence[date], right: float) -> Callable[[date], float]:
    x = svg.linear_scale(days[0].toordinal(), days[-1].toordinal(), LEFT, right)
    return lambda day: x(day.toordinal())


def _day_labels(
    days: Sequence[date], x: Callable[[date], float], width: float
) -> list[svg.Element]:
    """Return labels for the first and the last day; `width` is that of a column."""
    y = float(PLOT_HEIGHT - 8)
    first = svg.text(x(days[0]), y, days[0].isoformat(), class_="label faint")
    if days[0] == days[-1]:
        return [first]
    end = x(days[-1]) + width
    return [first, svg.text(end, y, days[-1].isoformat(), anchor="end", class_="label faint")]


def _rectangle(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:.1f},{y:.1f}h{width:.2f}v{height:.2f}h{-width:.2f}z"


def _dot(x: float, y: float, kind: str) -> svg.Element:
    return svg.path(f"M{x - 3:.1f},{y:.1f}a3,3 0 1,0 6,0a3,3 0 1,0 -6,0z", class_=kind)
