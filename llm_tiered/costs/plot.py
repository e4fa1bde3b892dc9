"""A report of savings by day → a line chart, as SVG."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import accumulate
from typing import TYPE_CHECKING

from .. import svg
from ..errors import RequestError
from ..wording import dollars

if TYPE_CHECKING:
    from .savings import SavingsReport

WIDTH, HEIGHT = 800, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 130, 50, 45

INK, GRID, SAVED, SPENT = "#333", "#ddd", "#1a7f5a", "#c2410c"


def savings_chart(report: SavingsReport) -> str:
    """Return an SVG file with what was saved and spent up to each day, as two lines.

    `report` is by day. Raises RequestError if it has no requests.
    """
    if not report.groups:
        raise RequestError("there is nothing to draw: no requests in this period")
    days = [date.fromisoformat(day).toordinal() for day in report.groups if day]
    saved = list(accumulate(tally.saved.known for tally in report.groups.values()))
    spent = list(accumulate(tally.spent.known for tally in report.groups.values()))
    low, high = min(Decimal(0), *saved), max(*saved, *spent) or Decimal(1)
    x = svg.linear_scale(days[0], days[-1], LEFT, WIDTH - RIGHT)
    y = svg.linear_scale(float(low), float(high), HEIGHT - BOTTOM, TOP)

    title = "Saved and spent by tiered, added up"
    elements = [svg.text(LEFT, 28, title, fill=INK, font_size=16)]
    for tick in _ticks(low, high):
        height = y(float(tick))
        elements.append(svg.polyline([(LEFT, height), (WIDTH - RIGHT, height)], stroke=GRID))
        elements.append(svg.text(LEFT - 8, height + 4, dollars(tick), anchor="end", fill=INK))
    for day, anchor in ((days[0], "start"), (days[-1], "end"))[: len(set(days))]:
        label = date.fromordinal(day).isoformat()
        elements.append(svg.text(x(day), HEIGHT - BOTTOM + 30, label, anchor=anchor, fill=INK))
    saved_is_above = saved[-1] >= spent[-1]
    for name, values, colour, above in (
        ("saved", saved, SAVED, saved_is_above),
        ("spent", spent, SPENT, not saved_is_above),
    ):
        points = [(x(day), y(float(value))) for day, value in zip(days, values, strict=True)]
        end_x, end_y = points[-1]
        # The labels are apart even if both lines end at the same place.
        label_y = end_y + (-3 if above else 13)
        elements += [
            svg.polyline(points, stroke=colour, stroke_width=2),
            svg.circle(end_x, end_y, 3, fill=colour),
            svg.text(end_x + 8, label_y, f"{name} {dollars(values[-1])}", fill=colour),
        ]
    return svg.document(WIDTH, HEIGHT, elements)


def _ticks(low: Decimal, high: Decimal) -> list[Decimal]:
    """Return two to ten round values from low to high."""
    step = Decimal(10) ** (high - low).adjusted()
    if (high - low) / step < 3:
        step /= 5
    first = (low / step).to_integral_value(ROUND_CEILING)
    last = (high / step).to_integral_value(ROUND_FLOOR)
    return [step * number for number in range(int(first), int(last) + 1)]
