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
    """Give the widths of the bars, without the background."""
    return [float(rect.attrib["width"]) for rect in root.findall(f"{SVG}rect")[1:]]


def texts(root: Element) -> list[str | None]:
    """Give what is written."""
    return [text.text for text in root.findall(f"{SVG}text")]


def test_it_is_svg() -> None:
    """The plot is XML, as large as what is in it, and names are escaped."""
    root = fromstring(bar_charts(FIGURES))
    assert root.tag == f"{SVG}svg"
    lowest = max(float(text.attrib["y"]) for text in root.findall(f"{SVG}text"))
    assert float(root.attrib["height"]) > lowest
    assert "mlx/<b> & c" in texts(root)


def test_bars_are_as_long_as_the_values() -> None:
    """Within a chart, lengths compare as the values do; the one beside has a bar of its own."""
    ours, theirs, other, beside, *_ = bars(fromstring(bar_charts(FIGURES)))
    assert theirs == 2 * ours
    assert other == beside == theirs / 4


def test_each_kind_has_its_own_scale() -> None:
    """A chart for each kind of figure has a title with the unit, and every value is written."""
    written = texts(fromstring(bar_charts(FIGURES)))
    titles = ["generation, tokens/s", "tiered, ms", "mask mean, µs"]
    assert [text for text in written if text in titles] == titles
    assert {"20.0 tokens/s", "40.0 tokens/s mlx_lm", "-0.20 ms", "0.00 µs"} <= {*written}


def test_what_is_below_zero_has_no_length() -> None:
    """A difference below zero, or nothing at all, is drawn as a line."""
    assert bars(fromstring(bar_charts(FIGURES)))[4:] == [1.0, 1.0]


def test_nothing_to_draw() -> None:
    """Without figures the plot is empty, and still SVG."""
    assert bars(fromstring(bar_charts([]))) == []
