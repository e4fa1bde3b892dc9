"""JSON Schema's regular expressions, those of ECMA-262, as Python and Rust understand them."""

from __future__ import annotations

import functools
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the classes of ECMA-262 stand for, as ranges of code points. Python and Rust mean more.
_DIGITS = [(48, 57)]
_WORD = [(48, 57), (65, 90), (95, 95), (97, 122)]
_SPACE = [
    *((9, 13), (32, 32), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029)),
    *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
]
_EVERYTHING = [(0, sys.maxunicode)]
_LINE_ENDS = [(10, 10), (13, 13), (0x2028, 0x2029)]
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_CLASS = re.compile(r"\\[dDwWsSpP]")
_NO_RANGE = re.compile(r"-(?:\]|\\[dDwWsSpP])")
# Borders of words as ECMA-262 means words, which Rust's engine without look-around refuses.
_BORDERS = {
    "b": r"(?:(?<=[0-9A-Za-z_])(?![0-9A-Za-z_])|(?<![0-9A-Za-z_])(?=[0-9A-Za-z_]))",
    "B": r"(?:(?<=[0-9A-Za-z_])(?=[0-9A-Za-z_])|(?<![0-9A-Za-z_])(?![0-9A-Za-z_]))",
}
_LOOKS = ("?=", "?!", "?<=", "?<!")
_CONTROLS = {"0": "\0", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

# A group's opening, a class of Unicode, a backreference, and a quantifier are taken as they are,
# or with Python's spelling.
_GROUP = re.compile(r"\(\?P?<(?P<name>[A-Za-z_]\w*)>")
_PROPERTY = re.compile(r"\\[pP](?:\{[^{}]+\}|[A-Z])")
_BACKREFERENCE = re.compile(r"\\(?:(?P<number>[1-9]\d?)|k<(?P<name>\w+)>)")
_QUANTIFIER = re.compile(r"\{(?P<least>\d*)(?P<comma>,?)(?P<most>\d*)\}")
_CODE = re.compile(
    r"\\u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|\\u\{(?P<braced>[0-9a-fA-F]{1,6})\}"
    r"|\\u(?P<four>[0-9a-fA-F]{4})|\\x(?P<two>[0-9a-fA-F]{2})|\\c(?P<control>[A-Za-z])"
)

# Seconds that one search may take: some patterns take exponential time on some texts.
TIME_LIMIT = 1.0


def search(pattern: str, text: str) -> bool:
    """Return whether a pattern matches anywhere in a text.

    Raises ValueError if the pattern is not valid, or takes too long.
    """
    try:
        return _compiled(pattern).search(text, timeout=TIME_LIMIT) is not None
    except TimeoutError:
        raise ValueError(f"the pattern {pattern} takes too long on an answer") from None


def check(pattern: str) -> None:
    """Raise ValueError if a pattern is not valid."""
    _compiled(pattern)


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import regex  # type: ignore[import-untyped]  # it has no types of its own

    try:
        return regex.compile(translate(pattern, end=r"\Z"), regex.VERSION0)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"the pattern {pattern} is not valid: {error}") from None


def translate(pattern: str, end: str = "$") -> str:
    r"""Return a pattern with all that engines read differently spelt out.

    `end` is how the engine writes the end of the text: `$` in Rust, where `\Z` is unknown, and
    `\Z` in Python, where `$` also comes before a last line break.
    """
    return "".join(_pieces(pattern, end))


def without_assertions(pattern: str) -> str:
    """Return a translated pattern for Rust that leaves out what its engine can't look at.

    Those are look-around, the borders of words and backreferences. The result matches all that the
    pattern does, and more.
    """
    out: list[str] = []
    depth = 0
    pieces = [*_pieces(pattern, "$"), "", "", ""]
    for place, piece in enumerate(pieces):
        opens = piece == "(" and "".join(pieces[place + 1 : place + 4]).startswith(_LOOKS)
        if depth:
            depth += piece.startswith("(") and not piece.endswith(")")
            depth -= piece == ")"
        elif opens:
            depth = 1
        elif piece.startswith(("(?P=", "(?:\\")):
            out.append(f"(?:[{_ranges(_EVERYTHING)}]*)")
        elif piece not in _BORDERS.values():
            out.append(piece)
    return "".join(out)


def _pieces(pattern: str, end: str) -> Iterator[str]:
    place = 0
    while place < len(pattern):
        piece, place = _piece(pattern, place, end)
        yield piece


def _piece(pattern: str, place: int, end: str) -> tuple[str, int]:
    """Return the translation of what stands at a place, and the next place."""
    first = pattern[place]
    if first == "[":
        return _bracket(pattern, place + 1)
    if first == "\\" and place + 1 < len(pattern):
        return _backslash(pattern, place, end)
    if first == "(" and (group := _GROUP.match(pattern, place)):
        return f"(?P<{group['name']}>", group.end()
    if first == "{" and (quantifier := _QUANTIFIER.match(pattern, place)):
        return _quantifier(quantifier), quantifier.end()
    alone = {"$": end, ".": f"[^{_ranges(_LINE_ENDS)}]", "{": r"\{", "}": r"\}", "]": r"\]"}
    return alone.get(first, first), place + 1


def _backslash(pattern: str, place: int, end: str) -> tuple[str, int]:
    """Return the translation of a backslash and what follows, outside a class."""
    if reference := _BACKREFERENCE.match(pattern, place):
        name = reference["name"]
        return f"(?P={name})" if name else f"(?:\\{reference['number']})", reference.end()
    letter = pattern[place + 1]
    borders = {**_BORDERS, "A": "^", "z": end, "Z": end}
    if letter in borders:
        return borders[letter], place + 2
    escaped, after = _escape(pattern, place)
    return (f"[{escaped}]" if letter in "dDwWsS" else escaped), after


def _quantifier(found: re.Match[str]) -> str:
    least, comma, most = found.group("least", "comma", "most")
    if not least and not most:
        return re.escape(found[0])
    # `{,3}` is ECMA-262's for these characters, but whoever writes it means what Python does.
    return f"{{{least or 0}{comma}{most}}}"


def _bracket(pattern: str, place: int) -> tuple[str, int]:
    """Return the translation of a class of characters, from the place after its bracket."""
    negated = pattern.startswith("^", place)
    place += negated
    if pattern.startswith("]", place):
        everything = _ranges(_EVERYTHING)
        return (f"[{everything}]" if negated else f"[^{everything}]"), place + 1
    out = ["[^" if negated else "["]
    while place < len(pattern) and pattern[place] != "]":
        is_class = _CLASS.match(pattern, place)
        atom, place = _atom(pattern, place)
        out.append(atom)
        # A hyphen makes a range, if it stands between two characters.
        if pattern.startswith("-", place) and not (is_class or _NO_RANGE.match(pattern, place)):
            atom, place = _atom(pattern, place + 1)
            out.append(f"-{atom}")
    if place == len(pattern):
        # Left open: every engine refuses it.
        return "".join(out), place
    return "".join([*out, "]"]), place + 1


def _atom(pattern: str, place: int) -> tuple[str, int]:
    if pattern.startswith("\\b", place):
        return _character("\b"), place + 2
    if pattern.startswith("\\", place):
        return _escape(pattern, place)
    if place == len(pattern):
        return "", place
    return _character(pattern[place]), place + 1


def _escape(pattern: str, place: int) -> tuple[str, int]:
    """Return the translation of a backslash and what follows, inside a class or outside."""
    if kept := _PROPERTY.match(pattern, place):
        return kept[0], kept.end()
    if code := _CODE.match(pattern, place):
        return _character(_coded(code)), code.end()
    letter = pattern[place + 1 : place + 2]
    if letter.lower() in _CLASSES and letter:
        ranges = _CLASSES[letter.lower()]
        return _ranges(ranges if letter.islower() else _others(ranges)), place + 2
    return _character(_CONTROLS.get(letter, letter)), place + 2


def _coded(code: re.Match[str]) -> str:
    if code["control"]:
        return chr(ord(code["control"]) % 32)
    if code["high"]:
        units = bytes.fromhex(code["high"] + code["low"])
        return units.decode("utf-16-be")
    number = int(code["braced"] or code["four"] or code["two"], 16)
    # A number beyond Unicode matches nothing that JSON can hold, just as a lone surrogate.
    return chr(min(number, sys.maxunicode))


def _others(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges between these."""
    starts = [0, *(last + 1 for _, last in ranges)]
    ends = [*(first - 1 for first, _ in ranges), sys.maxunicode]
    return [pair for pair in zip(starts, ends, strict=True) if pair[0] <= pair[1]]


def _ranges(ranges: list[tuple[int, int]]) -> str:
    return "".join(
        _character(chr(first)) + (f"-{_character(chr(last))}" if last > first else "")
        for first, last in ranges
    )


def _character(character: str) -> str:
    """Return one character, so that it stands for itself inside a class and outside."""
    if character.isascii() and not character.isalnum() and character.isprintable():
        # In Rust, an escaped angle bracket is the border of a word.
        return character if character in " _<>" else f"\\{character}"
    return character
