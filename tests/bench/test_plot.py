"""Figures as bar charts."""

from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring

from llm_tiered.bench.figures import Figure
from llm_tiered.bench.plot import bar_charts

SVG = "{http://www.w3.org/2000/svg}"
GENERATION = Figure("raw", "generation", "tokens/s", 20.0, "mlx/a", None, "mlx_lm", 40.0, 0.5)
FIGURES = [
    GENERATION,
    Figure("raw", "generation", "tokens/s", 10.0, "mlx/<b> & c", None, "mlx_lm", 10.0, 1.0),
    Figure("overhead", "tiered", "ms", -0.2),
    Figure("schema", "mask_mean", "µs", 0.0, note="151,936 wide"),
]


def bars(root: Element) -> list[float]:
    """The widths of the bars, without the background."""
    return [float(rect.attrib["width"]) for rect in root.findall(f"{SVG}rect")[1:]]


def texts(root: Element) -> list[str | None]:
    """The texts."""
    return [text.text for text in root.findall(f"{SVG}text")]


def test_svg() -> None:
    """The plot is valid XML, high enough for its content, and names are escaped."""
    root = fromstring(bar_charts(FIGURES))
    assert root.tag == f"{SVG}svg"
    lowest = max(float(text.attrib["y"]) for text in root.findall(f"{SVG}text"))
    assert float(root.attrib["height"]) > lowest
    assert "mlx/<b> & c" in texts(root)


def test_bars_are_proportional() -> None:
    """Within a chart, bars are proportional to their values; baselines have bars of their own."""
    ours, theirs, other, other_baseline, *_ = bars(fromstring(bar_charts(FIGURES)))
    assert theirs == 2 * ours
    assert other == other_baseline == theirs / 4


def test_titles_and_values() -> None:
    """Each chart has a title with a unit, and each bar its value."""
    shown = texts(fromstring(bar_charts(FIGURES)))
    titles = ["decode, tokens/s", "overhead of tiered, ms", "schema mask, mean, µs"]
    assert [text for text in shown if text in titles] == titles
    assert {"20.0 tokens/s", "40.0 tokens/s mlx_lm", "-0.20 ms", "0.00 µs"} <= {*shown}


def test_negative_values() -> None:
    """Negative values and zero are drawn as a line."""
    assert bars(fromstring(bar_charts(FIGURES)))[4:] == [1.0, 1.0]


def test_no_figures() -> None:
    """Without figures the plot is empty, but valid."""
    assert bars(fromstring(bar_charts([]))) == []
