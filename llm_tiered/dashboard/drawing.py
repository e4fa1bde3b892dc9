"""Numbers → shapes of an SVG picture: lines, columns, and bars with a label each."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

WIDTH = 440

# Around what is drawn, for the texts.
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 16, 30
PLOT_HEIGHT = 240

# A bar, and the text above it.
BAR, BAR_TEXT, BAR_GAP = 14, 20, 14


class Path(NamedTuple):
    """A line or a filled shape; `kind` is its class, from which it has its colour."""

    d: str
    kind: str


class Text(NamedTuple):
    """Text; `anchor` says which end of it is at x."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    kind: str = "label"


class Series(NamedTuple):
    """Values in the order of the days or bars that they belong to; `kind` is as for a path."""

    kind: str
    values: Sequence[float]


@dataclass(frozen=True)
class Picture:
    """All shapes of a picture, those in front last."""

    height: int
    paths: list[Path]
    texts: list[Text]
    width: int = WIDTH


def lines(
    days: Sequence[date], series: Sequence[Series], tick: Callable[[float, float], str]
) -> Picture:
    """A line for each series, with a dot at its end."""
    values = [value for line in series for value in line.values]
    scale, paths, texts = _axis(min(0.0, *values), max(values), tick)
    x = _days_to_x(days, WIDTH - RIGHT)
    texts += _day_labels(days, x, 0)
    for line in series:
        points = [(x(day), scale(value)) for day, value in zip(days, line.values, strict=True)]
        paths.append(Path("M" + " L".join(f"{px:.1f},{py:.1f}" for px, py in points), line.kind))
        paths.append(_dot(*points[-1], f"{line.kind} dot"))
    return Picture(PLOT_HEIGHT, paths, texts)


def columns(
    days: Sequence[date], series: Sequence[Series], tick: Callable[[float, float], str]
) -> Picture:
    """A column for each day, with one series on top of the other."""
    totals = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    scale, paths, texts = _axis(0, max(totals), tick)
    room = (WIDTH - LEFT - RIGHT) / ((days[-1] - days[0]).days + 1)
    wide = min(room * 0.8, 40) if room > 3 else room
    x = _days_to_x(days, WIDTH - RIGHT - room)
    texts += _day_labels(days, x, wide)
    below = [0.0] * len(days)
    for one in series:
        d = ""
        for place, (day, value) in enumerate(zip(days, one.values, strict=True)):
            if value:
                top, bottom = scale(below[place] + value), scale(below[place])
                d += _rectangle(x(day), top, wide, bottom - top)
                below[place] += value
        paths.append(Path(d, f"{one.kind} filled"))
    return Picture(PLOT_HEIGHT, paths, texts)


def bars(labels: Sequence[tuple[str, str]], series: Sequence[Series]) -> Picture:
    """A bar for each label, with one series after the other; a label is text left and right."""
    totals = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    longest = max(totals, default=0) or 1
    paths, texts = [], []
    step = BAR_TEXT + BAR + BAR_GAP
    for row, (left, right) in enumerate(labels):
        y = row * step + 14
        texts += [Text(0, y, left), Text(WIDTH, y, right, "end", "label faint")]
        top, x = row * step + BAR_TEXT, 0.0
        paths.append(Path(_rectangle(0, top, WIDTH, BAR), "track"))
        for one in series:
            wide = one.values[row] / longest * WIDTH
            if wide:
                paths.append(Path(_rectangle(x, top, wide, BAR), f"{one.kind} filled"))
                x += wide
    return Picture(len(labels) * step, paths, texts)


def _axis(
    low: float, high: float, tick: Callable[[float, float], str]
) -> tuple[Callable[[float], float], list[Path], list[Text]]:
    """Values → heights, and a line wherever it is a round one; `tick` writes it, given the step."""
    step = _round_step((high - low) or 1.0)
    first, last = floor(low / step), max(ceil(high / step), floor(low / step) + 1)
    low, high = first * step, last * step

    def scale(value: float) -> float:
        return PLOT_HEIGHT - BOTTOM - (PLOT_HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    rounds = [number * step for number in range(first, last + 1)]
    paths = [Path(f"M{LEFT},{scale(value):.1f} H{WIDTH - RIGHT}", "grid") for value in rounds]
    texts = [
        Text(LEFT - 8, scale(value) + 4, tick(value, step), "end", "label faint")
        for value in rounds
    ]
    return scale, paths, texts


def _round_step(size: float) -> float:
    """A round number that goes into the size three to six times."""
    power = 10.0 ** floor(log10(size))
    return next(power * part for part in (0.2, 0.5, 1.0, 2.0) if size / part <= 6 * power)


def _days_to_x(days: Sequence[date], right: float) -> Callable[[date], float]:
    first, length = days[0], (days[-1] - days[0]).days
    return lambda day: LEFT + (right - LEFT) * ((day - first).days / length if length else 0)


def _day_labels(days: Sequence[date], x: Callable[[date], float], wide: float) -> list[Text]:
    """The first day and the last one, under where they are."""
    y = PLOT_HEIGHT - 8
    first = Text(x(days[0]), y, days[0].isoformat(), "start", "label faint")
    if days[0] == days[-1]:
        return [first]
    return [first, Text(x(days[-1]) + wide, y, days[-1].isoformat(), "end", "label faint")]


def _rectangle(x: float, y: float, wide: float, high: float) -> str:
    return f"M{x:.1f},{y:.1f}h{wide:.2f}v{high:.2f}h{-wide:.2f}z"


def _dot(x: float, y: float, kind: str) -> Path:
    return Path(f"M{x - 3:.1f},{y:.1f}a3,3 0 1,0 6,0a3,3 0 1,0 -6,0z", kind)
