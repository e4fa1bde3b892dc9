"""The HTML page of a comparison."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from llm_tiered.compare.page import page
from llm_tiered.compare.runs import Column, Question
from tests.compare.test_figures import answer

EVIL = "</pre><script>alert(1)</script><img src='//example.com/x' onerror=\"alert(2)\"> & é"


class Reader(HTMLParser):
    """Reads a page: its tags, and its text outside of styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the last one, which it has to be."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if data.strip() and self.open[-1] != "style":
            self.texts.append(data)


def read(*columns: Column, **fields: Any) -> Reader:
    """The page of a comparison."""
    said: dict[str, Any] = {"prompt": "Hello?", "system": None, "schema": None, "options": {}}
    found = Reader(page(Question(**said | fields), columns))
    assert found.open == []
    return found


def test_everything_is_text() -> None:
    """Nothing that people or models wrote becomes markup, wherever it stands."""
    evil = Column(EVIL, EVIL, [answer(text=EVIL), answer(text=EVIL + "2")], [EVIL], [EVIL, None])
    found = read(evil, prompt=EVIL, system=EVIL, schema={"title": EVIL}, runs=3)
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "img"})
    assert {name for _, attributes in found.tags for name in attributes} <= {
        *("lang", "charset", "name", "content", "http-equiv", "class")
    }
    assert found.texts.count(EVIL) >= 4
    assert EVIL + "2" in found.texts


def test_nothing_is_fetched() -> None:
    """The page needs no other file, and forbids itself to get any."""
    found = read(Column("small", "mlx/a", [answer()], [], []))
    assert {tag for tag, _ in found.tags}.isdisjoint({"link", "script", "img", "iframe"})
    [policy] = [a["content"] for _, a in found.tags if "http-equiv" in a]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert "url(" not in page(Question("", None, None, {}), [])


def test_light_and_dark() -> None:
    """It follows what the reader's system is set to."""
    text = page(Question("", None, None, {}), [])
    assert "color-scheme: light dark" in text
    assert "@media (prefers-color-scheme: dark)" in text


def test_content() -> None:
    """Each tier is a column with its figures, its answers and what went wrong."""
    small = Column("small", "mlx/a", [answer(), answer(text="Hi")], [], [])
    cloud = Column("cloud", "gemini/b", [], ["skipped: no key"], [])
    texts = read(small, cloud, runs=2).texts
    assert texts[:4] == [
        "Hello?",
        "small, cloud: 2 runs each, median (least to most)",
        "Prompt",
        "Hello?",
    ]
    first = texts[texts.index("small") : texts.index("cloud")]
    assert first[:4] == ["small", "mlx/a", "time", "1.00 s"]
    assert first[-3:] == ["Hello", "another answer", "Hi"]
    assert texts[texts.index("cloud") :] == ["cloud", "gemini/b", "no answer: skipped: no key"]
