"""The HTML page of a comparison."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from llm_tiered.compare.page import page
from llm_tiered.compare.runs import Column, CompareRequest
from tests.compare.test_figures import answer

EVIL = "</pre><script>alert(1)</script><img src='//example.com/x' onerror=\"alert(2)\"> & é"


class PageReader(HTMLParser):
    """The tags of a page, and its text outside of styles."""

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
        """Close the innermost tag, which must be this one."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if data.strip() and self.open[-1] != "style":
            self.texts.append(data)


def read(*columns: Column, **fields: Any) -> PageReader:
    """The page of a comparison."""
    defaults: dict[str, Any] = {"prompt": "Hello?", "system": None, "schema": None, "options": {}}
    reader = PageReader(page(CompareRequest(**defaults | fields), columns))
    assert reader.open == []
    return reader


def empty_page() -> str:
    """The page of an empty comparison."""
    return page(CompareRequest("", None, None, {}), [])


def test_everything_is_text() -> None:
    """Nothing that people or models wrote becomes markup, anywhere on the page."""
    evil = Column(EVIL, EVIL, [answer(text=EVIL), answer(text=EVIL + "2")], [EVIL], [EVIL, None])
    reader = read(evil, prompt=EVIL, system=EVIL, schema={"title": EVIL}, runs=3)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "img"})
    assert {name for _, attributes in reader.tags for name in attributes} <= {
        *("lang", "charset", "name", "content", "http-equiv", "class")
    }
    assert reader.texts.count(EVIL) >= 4
    assert EVIL + "2" in reader.texts


def test_nothing_is_fetched() -> None:
    """The page needs no other file, and its policy forbids loading any."""
    reader = read(Column("small", "mlx/a", [answer()], [], []))
    assert {tag for tag, _ in reader.tags}.isdisjoint({"link", "script", "img", "iframe"})
    [policy] = [a["content"] for _, a in reader.tags if "http-equiv" in a]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert "url(" not in empty_page()


def test_light_and_dark() -> None:
    """The page follows the colour scheme of the reader's system."""
    text = empty_page()
    assert "color-scheme: light dark" in text
    assert "@media (prefers-color-scheme: dark)" in text


def test_content() -> None:
    """Each tier is a column with its figures, its answers and its failures."""
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


def test_text_is_exact() -> None:
    """Prompts and answers keep their white space, and empty parts are left out."""
    text = "  two\n\nlines \n"
    reader = read(Column("small", "mlx/a", [answer(text=text)], [], []), prompt=text, system="")
    assert reader.texts.count(text) == 2
    assert "System prompt" not in reader.texts
    assert "Schema" not in reader.texts
