"""Patterns of ECMA-262, in Python's engine and in Rust's."""

from __future__ import annotations

import json

import llguidance
import pytest

from llm_tiered import patterns

# A pattern, texts in which it is found, and texts in which it is not.
PATTERNS: list[tuple[str, list[str], list[str]]] = [
    ("", ["", "a"], []),
    ("b", ["abc"], ["ac"]),
    ("^a$", ["a"], ["a\n", "ba"]),
    (r"\Aa\Z", ["a"], ["a\n"]),
    (r"^\d\D$", ["1٣", "1a"], ["٣a", "12"]),
    (r"^\w\W$", ["aé", "_-"], ["éa", "ab"]),
    (r"^\s\S$", [" a", "\u00a0a", "\ufeffé"], ["a ", "\u200ba"]),
    ("^.$", ["a", "🎵"], ["\n", "\r", "\u2028"]),
    ("^[^]$", ["\n", "a"], [""]),
    ("[]", [], ["", "a"]),
    (r"^[\w-.]+$", ["a-b.c"], ["a b"]),
    (r"^[a-\d]+$", ["a-5"], ["b"]),
    (r"^[\D]$", ["٣"], ["3"]),
    (r"^[[a&&b||c~~d-]+$", ["[&|~-"], ["e"]),
    (r"^[\b]$", ["\b"], ["b"]),
    (r"^[\]\[^-]$", ["]", "[", "^", "-"], ["a"]),
    (r"^\/\-\@\<$", ["/-@<"], []),
    (r"^\cA\0\x41\u00e9\u{1F3B5}\uD83C\uDFB5$", ["\x01\0Aé🎵🎵"], []),
    (r"^\p{Lu}\P{Lu}$", ["Éa"], ["éa"]),
    (r"^(?<year>\d{4})-\k<year>$", ["2024-2024"], ["2024-2025"]),
    (r"^(a|b)\1$", ["aa"], ["ab"]),
    (r"^(?=.*\d)(?!.*x).{2}$", ["1a"], ["ab", "1x"]),
    (r"(?<=\$)5(?<!4)", ["$5"], ["5"]),
    (r"\bcat\b", ["a cat", "é-cat-é", "écaté"], ["concat", "cat_"]),
    (r"^\Bcat", [], ["cat"]),
    ("^x{2}y{1,}z{,1}$", ["xxy", "xxyyz"], ["xy"]),
    ("^{a}x{}$", ["{a}x{}"], []),
    ("^(?i:abc)$", ["ABC"], []),
    ("^a|b$", ["ax", "xb"], ["c"]),
    ("^(?:a+?|b*)c??$", ["aac", "b"], ["ab"]),
]


def test_search() -> None:
    """Each pattern means what it means in ECMA-262, where Python differs too."""
    wrong = [
        (pattern, text)
        for pattern, found, missing in PATTERNS
        for text in (*found, *missing)
        if patterns.search(pattern, text) != (text in found)
    ]
    assert wrong == []


def test_rust() -> None:
    """Rust's engine takes the translation, or one without assertions, which matches more."""
    tokens = llguidance.LLTokenizer("byte")
    wrong = []
    for pattern, found, missing in PATTERNS:
        exact, weaker = patterns.translate(pattern), patterns.without_assertions(pattern)
        schema = json.dumps({"type": "string", "pattern": weaker})
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema)
        for text in (*found, *missing):
            matcher = llguidance.LLMatcher(tokens, grammar, log_level=0)
            written = tokens.tokenize_bytes(json.dumps(text, ensure_ascii=False).encode())
            matched = matcher.consume_tokens(written) and matcher.is_accepting()
            if matched != (text in found) and (exact == weaker or text in found):
                wrong.append((pattern, text, matcher.get_error()[:80]))
    assert wrong == []


@pytest.mark.parametrize("pattern", ["(", "[a", "a**", "(?<=a", r"\p{Nothing}", "[b-a]", "a{3,1}"])
def test_a_broken_pattern_is_refused(pattern: str) -> None:
    """A pattern that no engine takes is an error that names it."""
    with pytest.raises(ValueError, match="is not valid") as refused:
        patterns.check(pattern)
    assert pattern in str(refused.value)


def test_a_search_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that takes longer than its limit, here hardly any time, is given up."""
    monkeypatch.setattr(patterns, "TIME_LIMIT", 1e-6)
    with pytest.raises(ValueError, match=r"the pattern \[ab\]c takes too long on an answer"):
        patterns.search("[ab]c", "ab" * 1_000_000)
