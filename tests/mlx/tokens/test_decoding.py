"""Decoding: however a text is tokenised, it is split into the same pieces."""

from __future__ import annotations

import json
from copy import copy
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from llm_tiered.mlx.tokens.call_formats import CallFormat
from llm_tiered.mlx.tokens.decoding import (
    Channel,
    Decoder,
    MarkerSplitter,
    Reasoning,
    Text,
    ToolText,
)
from llm_tiered.mlx.tokens.logprobs import TokenLogprob
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from llm_tiered.mlx.tokens.thinking import Thinking

    Markers = dict[Channel, dict[str, Channel]]
    Pieces = list[tuple[str, str]]

THINKING: Markers = {
    "text": {"<think>": "reasoning", "<call>": "tool", "STOP": "end", "OPEN": "end"},
    "reasoning": {"</think>": "text"},
    "tool": {"</call>": "text"},
}

many = settings(max_examples=120, deadline=None, derandomize=True, database=None)


def joined(pieces: Iterable[tuple[str, str]]) -> Pieces:
    """Merge neighbours of the same kind, and drop empty pieces."""
    groups = groupby((piece for piece in pieces if piece[1]), key=lambda piece: piece[0])
    return [(kind, "".join(text for _, text in group)) for kind, group in groups]


def split_slowly(text: str, markers: Markers, channel: Channel = "text") -> Pieces:
    """Split a text character by character: a marker counts once its last character is there."""
    pieces: Pieces = []
    seen = ""
    for character in text:
        seen += character
        ends = [marker for marker in markers.get(channel, {}) if seen.endswith(marker)]
        if ends:
            marker = max(ends, key=len)
            pieces.append((channel, seen.removesuffix(marker)))
            channel, seen = markers[channel][marker], ""
        if channel == "end":
            return pieces
    return [*pieces, (channel, seen)]


def cut(draw: st.DrawFn, text: str) -> list[str]:
    """Cut a text at arbitrary places."""
    places = draw(st.sets(st.integers(0, len(text)), max_size=8))
    bounds = [0, *sorted(places), len(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


@st.composite
def cut_texts(draw: st.DrawFn) -> list[str]:
    """Draw texts full of markers and beginnings of markers, cut at arbitrary places."""
    parts = st.sampled_from(
        ["<think>", "</think>", "<call>", "</call>", "STOP", "OPEN", "<", "</", "<th", "ST", "O"]
    )
    words = st.text(alphabet="ab \nSTOPEN</>thinkcl♭🎵", max_size=4)
    return cut(draw, "".join(draw(st.lists(parts | words, max_size=8))))


@st.composite
def cut_texts_and_markers(draw: st.DrawFn) -> tuple[list[str], Markers]:
    """Draw texts of two letters, cut at arbitrary places, and arbitrary markers of these."""
    marker = st.text(alphabet="ab", min_size=1, max_size=4)
    channels: tuple[Channel, ...] = ("text", "reasoning", "tool")
    markers: Markers = {
        channel: draw(
            st.dictionaries(marker, st.sampled_from([*channels, "end"]), max_size=4),
        )
        for channel in channels
    }
    return cut(draw, draw(st.text(alphabet="ab", max_size=16))), markers


def split(pieces: Sequence[str], markers: Markers, channel: Channel = "text") -> Pieces:
    """Split a text that arrives in these pieces."""
    splitter = MarkerSplitter(markers, channel)
    parts = [part for piece in pieces for part in splitter.push(piece)]
    parts.append(splitter.flush())
    whole = "".join(pieces)
    assert all(whole[part.end - len(part.text) : part.end] == part.text for part in parts)
    return joined([(part.channel, part.text) for part in parts])


@many
@given(cut_texts())
def test_cut_makes_no_difference(pieces: list[str]) -> None:
    """However a text is cut, it is split at the same places, and nothing is lost."""
    assert split(pieces, THINKING) == joined(split_slowly("".join(pieces), THINKING))


@many
@given(cut_texts())
def test_cut_makes_no_difference_inside_reasoning(pieces: list[str]) -> None:
    """The same holds if the prompt has opened the reasoning."""
    parts = split(pieces, THINKING, "reasoning")
    assert parts == joined(split_slowly("".join(pieces), THINKING, "reasoning"))


@many
@given(cut_texts_and_markers())
def test_any_markers(case: tuple[list[str], Markers]) -> None:
    """The same holds for markers that overlap, contain each other, or begin or end alike."""
    pieces, markers = case
    assert split(pieces, markers) == joined(split_slowly("".join(pieces), markers))


@many
@given(cut_texts())
def test_nothing_is_held_back_for_long(pieces: list[str]) -> None:
    """Only text that may still become a marker is held back."""
    splitter = MarkerSplitter(THINKING)
    for piece in pieces:
        splitter.push(piece)
        pending = copy(splitter).flush().text
        markers = THINKING.get(splitter.channel, {})
        assert not pending or any(marker.startswith(pending) for marker in markers)
        assert pending not in markers


@pytest.mark.parametrize("cuts", [["xabcd"], ["xa", "bc", "d"], ["x", "abc", "d"], [*"xabcd"]])
def test_stop_string_inside_another(cuts: list[str]) -> None:
    """Of two overlapping stop strings, the one that is complete first ends the answer."""
    assert split(cuts, {"text": {"abcd": "end", "bc": "end"}}) == [("text", "xa")]


@pytest.mark.parametrize("cuts", [["xabc"], ["xab", "c"], [*"xabc"]])
def test_stop_string_that_begins_another(cuts: list[str]) -> None:
    """A stop string counts even if a longer one begins with it."""
    assert split(cuts, {"text": {"abc": "reasoning", "ab": "end"}}) == [("text", "x")]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tokenizer of a model that reasons and calls tools."""
    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(build("qwen3", tmp_path_factory.mktemp("decoding"), layers=1))


STOP = "STOP"
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
# In the expectations, a marker that is a token is one character.
THINK, END_THINK, CALL, END_CALL = TOKENS = "\ue000\ue001\ue002\ue003"
WRITTEN: Markers = {
    "text": {THINK: "reasoning", CALL: "tool", STOP: "end"},
    "reasoning": {END_THINK: "text"},
    "tool": {END_CALL: "text"},
}
ANY_CALL = CallFormat(lambda *_: [], lambda _: False)


@st.composite
def model_texts(draw: st.DrawFn) -> list[str]:
    """Draw texts that a model could write, in pieces that are tokenised separately."""
    parts = st.sampled_from([*MARKERS, STOP, "<", "</think", "ST", "\n"])
    words = st.text(alphabet="ab {}:\n\"'éß♭🎵🙂你", max_size=4)
    pieces = draw(st.lists(parts | words, max_size=8))
    text = "".join(pieces)
    # Detokenisers drop the space with which many models begin.
    assume(not text.startswith(" "))
    return cut(draw, text) if draw(st.booleans()) else pieces


def decode(tokenizer: Any, pieces: Sequence[str], *, opened: bool = False) -> Pieces:
    """Decode a text whose pieces are tokenised separately."""
    thinking: Thinking = "open" if opened else "possible"
    decoder = Decoder(tokenizer, [STOP], thinking=thinking, calls=ANY_CALL)
    events: list[Text | Reasoning | ToolText] = []
    for piece in pieces:
        for token in tokenizer.encode(piece, add_special_tokens=False):
            if not decoder.stopped:
                events += decoder.push(token)
    events += decoder.finish()
    kinds = {Text: "text", Reasoning: "reasoning", ToolText: "tool"}
    return joined((kinds[type(event)], event.text) for event in events)


def expected(pieces: Sequence[str], *, opened: bool) -> Pieces:
    """Split a text whose pieces are tokenised separately: a marker counts if one holds it whole."""
    text = "".join(map(_with_tokens, pieces))
    *parts, (kind, last) = split_slowly(text, WRITTEN, "reasoning" if opened else "text")
    result = trimmed([*parts, (kind, last)], opened=opened)
    before = trimmed(parts, opened=opened)
    if kind == "reasoning" and any(kind == "text" and text.strip() for kind, text in before):
        # Thoughts that begin within the answer and never end: the marker was only mentioned.
        result = joined([*before, ("text", THINK + last)])
    return joined((kind, _without_tokens(text)) for kind, text in result)


def _with_tokens(text: str) -> str:
    for marker, token in zip(MARKERS, TOKENS, strict=True):
        text = text.replace(marker, token)
    return text


def _without_tokens(text: str) -> str:
    for marker, token in zip(MARKERS, TOKENS, strict=True):
        text = text.replace(token, marker)
    return text


def trimmed(pieces: Pieces, *, opened: bool = False) -> Pieces:
    """Remove the white space between reasoning or tool calls and the answer."""
    result: Pieces = []
    after = opened
    for kind, text in pieces:
        answer = text.lstrip() if kind == "text" and after else text
        result.append((kind, answer))
        after = kind != "text" or (after and not answer)
    return joined(result)


@many
@given(pieces=model_texts(), opened=st.booleans())
def test_tokens_become_pieces(tokenizer: Any, pieces: list[str], opened: bool) -> None:
    """Answer, reasoning and tool calls are separated, complete and without their markers."""
    assert decode(tokenizer, pieces, opened=opened) == expected(pieces, opened=opened)


@many
@example(pieces=["</think>", " ", "<think>"], opened=False)
@given(pieces=model_texts(), opened=st.booleans())
def test_texts_know_their_tokens(tokenizer: Any, pieces: list[str], opened: bool) -> None:
    """Each text comes with the tokens that it consists of, and no others."""
    thinking: Thinking = "open" if opened else "possible"
    decoder = Decoder(tokenizer, [STOP], thinking=thinking, calls=ANY_CALL)
    events: list[Text | Reasoning | ToolText] = []
    for piece in pieces:
        for token in tokenizer.encode(piece, add_special_tokens=False):
            if not decoder.stopped:
                written = tokenizer.convert_ids_to_tokens(token)
                raw = written if written in MARKERS else "".join(chr(b) for b in _bytes(written))
                events += decoder.push(token, TokenLogprob(tuple(map(ord, raw)), -1.0))
    for event in [*events, *decoder.finish()]:
        if isinstance(event, Text):
            tokens = [bytes(each.token) for each in event.logprobs]
            rest = b"".join(tokens).replace(event.text.encode(), b"", 1)
            assert event.text.encode() in b"".join(tokens)
            assert len(rest) < len(tokens[0]) + len(tokens[-1])


def _bytes(written: str) -> Iterator[int]:
    """The bytes of a token, in the alphabet of byte-level tokenizers."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    alphabet = {letter: byte for byte, letter in bytes_to_unicode().items()}
    return (alphabet[letter] for letter in written)


@many
@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="<")))
def test_plain_text(tokenizer: Any, text: str) -> None:
    """A text without markers arrives unchanged, including characters of several bytes."""
    text = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)).lstrip(" ")
    assume(STOP not in text)
    assert decode(tokenizer, [text]) == joined([("text", text)])


def test_character_in_several_tokens(tokenizer: Any) -> None:
    """A character of several tokens arrives once, with its last token."""
    tokens = tokenizer.encode("𝄞", add_special_tokens=False)
    assert len(tokens) > 1
    decoder = Decoder(tokenizer, [])
    events = [decoder.push(token) for token in tokens]
    assert events == [*[[]] * (len(tokens) - 1), [Text("𝄞")]]


def test_broken_character_at_the_end(tokenizer: Any) -> None:
    """An incomplete character at the end of an answer becomes the replacement character."""
    tokens = tokenizer.encode("a𝄞", add_special_tokens=False)
    decoder = Decoder(tokenizer, [])
    events = [event for token in tokens[:-1] for event in decoder.push(token)]
    assert joined(("text", event.text) for event in [*events, *decoder.finish()]) == [
        ("text", "a\ufffd")
    ]


@pytest.mark.parametrize(
    ("text", "calls", "closed"),
    [
        ("<tool_call>a</tool_call>\n<tool_call>b</tool_call>", ["a", "b"], True),
        ("<tool_call></tool_call>", [""], True),
        ("<tool_call>", [""], False),
        ("<tool_call>a</tool_call><tool_call></tool_call>", ["a", ""], True),
        ("<tool_call>a", ["a"], False),
    ],
)
def test_every_call_counts(tokenizer: Any, text: str, calls: list[str], closed: bool) -> None:
    """Each tool call is one piece, even if it is empty or never closed."""
    decoder = Decoder(tokenizer, [], calls=ANY_CALL)
    tokens = tokenizer.encode(text, add_special_tokens=False)
    events = [event for token in tokens for event in decoder.push(token)]
    assert [*events, *decoder.finish()] == [ToolText(call, closed) for call in calls]


def test_stopped(tokenizer: Any) -> None:
    """After a stop string, the decoder has stopped and returns no more pieces."""
    decoder = Decoder(tokenizer, ["b"])
    pieces = [decoder.push(tokenizer.encode(letter)[0]) for letter in "abc"]
    assert pieces == [[Text("a")], [], []]
    assert decoder.stopped
    assert decoder.finish() == []


def test_markers_of_several_tokens(tmp_path: Path) -> None:
    """A marker that the model has no single token for is looked for in the text."""
    from mlx_lm.utils import load_tokenizer

    folder = build("phi3", tmp_path, layers=1)
    config = json.loads((folder / "tokenizer.json").read_text())
    for token in ("<|channel>", "<channel|>"):
        added = {**config["added_tokens"][-1], "content": token}
        config["added_tokens"].append({**added, "id": added["id"] + 1})
    (folder / "tokenizer.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(folder)
    assert [len(tokenizer.think_start_tokens) > 1, len(tokenizer.think_end_tokens)] == [True, 1]
    text = "<|channel>thought\nHe greets, <channel, that is.<channel|>Hi!"
    decoder = Decoder(tokenizer, [], thinking="possible")
    tokens = tokenizer.encode(text, add_special_tokens=False)
    events = [event for token in tokens for event in decoder.push(token)] + decoder.finish()
    kinds = {Text: "text", Reasoning: "reasoning", ToolText: "tool"}
    assert joined((kinds[type(event)], event.text) for event in events) == [
        ("reasoning", "\nHe greets, <channel, that is."),
        ("text", "Hi!"),
    ]
