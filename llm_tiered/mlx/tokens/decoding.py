"""Tokens → text: the answer, the reasoning, the tool calls, and where a stop string ends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from .logprobs import TextLogprobs
from .thinking import SPELLED_END, SPELLED_START

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .call_formats import CallFormat
    from .logprobs import TokenLogprob
    from .thinking import Thinking

# `bare` holds a tool call without the marker before it.
Channel = Literal["text", "reasoning", "tool", "bare", "end"]
CALLS: tuple[Channel, ...] = ("tool", "bare")

Piece: TypeAlias = "Text | Reasoning | ToolText"


@dataclass(frozen=True)
class Text:
    """The next piece of the answer, and the tokens that it consists of if they were asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Reasoning:
    """The next piece of the model's reasoning before the answer."""

    text: str


@dataclass(frozen=True)
class ToolText:
    """A tool call as the model wrote it, without its markers.

    `closed` is whether the marker that ends it is there. `bare` is whether the one before it is
    not, so that it may be text after all.
    """

    text: str
    closed: bool = True
    bare: bool = False
    logprobs: tuple[TokenLogprob, ...] = ()


class Segment(NamedTuple):
    """A text of one channel, and the place where it ends, in characters from the beginning."""

    channel: Channel
    text: str
    end: int


class MarkerSplitter:
    """Splits streamed text at markers, each of which switches to another channel.

    `markers` maps a channel to the markers that are looked for in its text, each with the channel
    it switches to. Text at the end is held back as long as it may be the beginning of a marker.
    `is_inside_value` is whether the text of a tool call ends inside a value, where no marker
    counts. What begins the channel `bare` is part of its text. The marker `opening` counts only at
    the beginning, after nothing but white space.
    """

    def __init__(
        self,
        markers: dict[Channel, dict[str, Channel]],
        channel: Channel = "text",
        is_inside_value: Callable[[str], bool] = lambda _: False,
        opening: str | None = None,
    ) -> None:
        self._markers = markers
        self._is_inside_value = is_inside_value
        self._opening = opening
        self._is_blank = True
        self._pending = ""
        # What the tool call holds so far.
        self._tool_text = ""
        self._place = 0
        self.channel = channel

    @property
    def length(self) -> int:
        """The number of characters so far, markers included."""
        return self._place + len(self._pending)

    def push(self, text: str) -> list[Segment]:
        """Add text and return the pieces that are now certain, in order.

        A piece may be empty: a marker ended its channel straight away.
        """
        text = self._pending + text
        pieces: list[Segment] = []
        while self.channel != "end" and (hit := self._find(text)):
            start, marker = hit
            pieces.append(self._piece(text[:start]))
            self._enter(self._markers[self.channel][marker])
            skipped = 0 if self.channel == "bare" else len(marker)
            self._place += skipped
            text = text[start + skipped :]
        if self.channel == "end":
            self._pending = ""
            return pieces
        overlap = self._held_back(text)
        self._pending = text[len(text) - overlap :]
        return [*pieces, self._piece(text[: len(text) - overlap])]

    def switch(self, marker: str, channel: Channel) -> list[Segment]:
        """Add a marker that is a token of its own, and return the pieces that are now certain."""
        if self.channel == "end":
            return []
        if self._is_protected(self._pending):
            return self.push(marker)
        piece = self.flush()
        self._place += len(marker)
        self._enter(channel)
        return [piece]

    def flush(self) -> Segment:
        """Return the text that was held back. Call it when no more text follows."""
        pending, self._pending = self._pending, ""
        return self._piece(pending)

    def _find(self, text: str) -> tuple[int, str] | None:
        """Return where the first marker begins, and the marker."""
        hits = [
            (start, marker)
            for marker in self._markers.get(self.channel, {})
            for start in _occurrences(marker, text)
            if not (self._is_protected(text[:start]) or self._is_late(marker, text[:start]))
        ]
        # The marker that ends first: character by character, it would have been seen first.
        return min(hits, key=lambda hit: (hit[0] + len(hit[1]), hit[0]), default=None)

    def _held_back(self, text: str) -> int:
        """Return how many characters at the end of the text could begin a marker."""
        markers = self._markers.get(self.channel, {})
        overlaps = [(marker, _overlap(text, marker)) for marker in markers]
        possible = (n for marker, n in overlaps if not self._is_late(marker, text[: len(text) - n]))
        return max(possible, default=0)

    def _is_late(self, marker: str, before: str) -> bool:
        return marker == self._opening and not (self._is_blank and not before.strip())

    def _is_protected(self, text: str) -> bool:
        return self.channel in CALLS and self._is_inside_value(self._tool_text + text)

    def _enter(self, channel: Channel) -> None:
        self.channel = channel
        self._tool_text = ""

    def _piece(self, text: str) -> Segment:
        if self.channel in CALLS:
            self._tool_text += text
        self._is_blank = self._is_blank and not text.strip()
        self._place += len(text)
        return Segment(self.channel, text, self._place)


def _occurrences(marker: str, text: str) -> Iterator[int]:
    """Yield where the marker begins in the text, overlapping occurrences included."""
    start = text.find(marker)
    while start >= 0:
        yield start
        start = text.find(marker, start + 1)


def _overlap(text: str, marker: str) -> int:
    """Return how many characters at the end of the text could begin the marker."""
    longest = min(len(text), len(marker) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(marker[:n])), 0)


class Markers:
    """What switches from one channel to another: tokens, and texts of several tokens."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.texts: dict[Channel, dict[str, Channel]] = {"text": dict.fromkeys(stop, "end")}
        self.tokens: dict[Channel, dict[int, tuple[str, Channel]]] = {}

    def add(self, where: Channel, to: Channel, marker: str, tokens: Sequence[int]) -> None:
        """Add a marker and the tokens it consists of. An empty one is left out."""
        if len(tokens) == 1:
            self.tokens.setdefault(where, {})[tokens[0]] = marker, to
        elif marker:
            self.texts.setdefault(where, {})[marker] = to


class Decoder:
    """Detokenises one answer and sorts it into text, reasoning and tool calls.

    A marker that the model has as a token counts only as that token: written in several others,
    it is text. Without such tokens, thoughts can only come first, between markers that are text.
    `stop` holds the stop strings; `thinking` is whether the answer may begin with thoughts, and
    `once` whether they come only there; `calls` is the format of tool calls, if they are to be
    recognised, and `tools` are the names of the tools.
    """

    def __init__(  # noqa: PLR0913 - what an answer may consist of
        self,
        tokenizer: Any,
        stop: Sequence[str],
        *,
        thinking: Thinking = "never",
        once: bool = False,
        calls: CallFormat | None = None,
        tools: Sequence[str] = (),
    ) -> None:
        self.called_in_thoughts = False
        """Whether a tool call began inside the thoughts, where it is not carried out."""
        self.reasoning_tokens = 0
        """The number of tokens of thoughts, with the markers around them."""
        self._logprobs = TextLogprobs()
        self._detokenizer = tokenizer.detokenizer
        self._think_start = tokenizer.think_start
        self._call_start = tokenizer.tool_call_start_tokens if calls else None
        self._markers = _markers(tokenizer, stop, thinking, once=once, tools=calls is not None)
        if calls and calls.bare_start:
            starts = map(calls.bare_start.format, tools)
            self._markers.texts["text"].update(dict.fromkeys(starts, "bare"))
        channel: Channel = "reasoning" if thinking == "open" else "text"
        options: dict[str, Any] = {"is_inside_value": calls.is_inside_value} if calls else {}
        self._splitter = MarkerSplitter(
            self._markers.texts, channel, opening=SPELLED_START, **options
        )
        self._tool_text: str | None = None
        self._tool_end = 0
        self._is_bare = False
        self._is_answering = False
        # Thoughts in the middle of an answer, until they end.
        self._aside: str | None = None
        self._aside_end = 0
        # Models write line breaks around reasoning and tool calls: they don't belong to the answer.
        self._strip_next = thinking == "open"

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the answer."""
        return self._splitter.channel == "end"

    @property
    def is_thinking(self) -> bool:
        """Whether the answer is still to come, after the thoughts."""
        return self._splitter.channel == "reasoning" and not self._is_answering

    def push(self, token: int, logprob: TokenLogprob | None = None) -> list[Piece]:
        """Return the pieces that a token completes; texts have the log-probabilities given here."""
        self._detokenizer.add_token(token)
        text = self._detokenizer.last_segment
        channel = self._splitter.channel
        if channel == "reasoning" and (token,) == self._call_start:
            self.called_in_thoughts = True
        if logprob:
            end = self._splitter.length + len(text)
            # Text before a marker is that of earlier tokens, held back until now.
            marker, _ = self._markers.tokens.get(channel, {}).get(token, (text, channel))
            self._logprobs.add(logprob, end - len(marker), end)
        parts = self._parts(token, text, channel)
        if "reasoning" in (channel, self._splitter.channel):
            self.reasoning_tokens += 1
        return self._pieces(parts)

    def _parts(self, token: int, text: str, channel: Channel) -> list[Segment]:
        if token not in self._markers.tokens.get(channel, {}):
            return self._splitter.push(text)
        marker, to = self._markers.tokens[channel][token]
        # What comes before it are characters that were incomplete until now.
        parts = self._splitter.push(text.removesuffix(marker))
        return [*parts, *self._splitter.switch(marker, to)]

    def finish(self) -> list[Piece]:
        """Return the remaining pieces. Call it when no more tokens follow."""
        if self.stopped:
            return []
        self._detokenizer.finalize()
        parts = self._splitter.push(self._detokenizer.last_segment)
        pieces = self._pieces([*parts, self._splitter.flush()])
        if self._tool_text is not None:
            pieces.append(self._tool(self._tool_text, closed=False))
        if self._aside is not None:
            # They never ended, so the answer only mentions the marker.
            pieces.append(self._text(f"{self._think_start}{self._aside}", self._aside_end))
        return pieces

    def _text(self, text: str, end: int) -> Text:
        return Text(text, self._logprobs.take(end - len(text), end))

    def _tool(self, text: str, *, closed: bool) -> ToolText:
        logprobs = self._logprobs.take(self._tool_end - len(text), self._tool_end)
        return ToolText(text, closed, self._is_bare, logprobs)

    def _pieces(self, parts: list[Segment]) -> list[Piece]:
        pieces: list[Piece] = []
        for channel, text, end in parts:
            if channel not in CALLS and self._tool_text is not None:
                pieces.append(self._tool(self._tool_text, closed=True))
                self._tool_text, self._strip_next = None, not self._is_bare
            if channel != "reasoning" and self._aside is not None:
                if self._aside:
                    pieces.append(Reasoning(self._aside))
                self._aside, self._strip_next = None, True
            if channel == "reasoning" and self._is_answering:
                self._aside, self._aside_end = (self._aside or "") + text, end
            elif channel == "reasoning":
                self._strip_next = True
                self._logprobs.forget(end)
                if text:
                    pieces.append(Reasoning(text))
            elif channel in CALLS:
                self._is_bare = channel == "bare"
                self._tool_text, self._tool_end = (self._tool_text or "") + text, end
            else:
                answer = text.lstrip() if self._strip_next else text
                if answer:
                    self._strip_next = False
                    self._is_answering = self._is_answering or not answer.isspace()
                    pieces.append(self._text(answer, end))
        return pieces


def _markers(
    tokenizer: Any, stop: Sequence[str], thinking: Thinking, *, once: bool, tools: bool
) -> Markers:
    markers = Markers(stop)
    start, end = tokenizer.think_start, tokenizer.think_end
    start_tokens, end_tokens = tokenizer.think_start_tokens, tokenizer.think_end_tokens
    if not tokenizer.has_thinking:
        once = True
        start, end, start_tokens, end_tokens = SPELLED_START, SPELLED_END, (), ()
    if thinking == "possible" or (thinking == "open" and not once):
        markers.add("text", "reasoning", start, start_tokens)
    if thinking != "never":
        markers.add("reasoning", "text", end, end_tokens)
    if tools:
        markers.add("text", "tool", tokenizer.tool_call_start, tokenizer.tool_call_start_tokens)
        for channel in CALLS:
            markers.add(channel, "text", tokenizer.tool_call_end, tokenizer.tool_call_end_tokens)
    return markers
