"""Tokens → text: the answer, the reasoning, the tool calls, and where a stop string ends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Channel = Literal["text", "reasoning", "tool", "end"]

Piece: TypeAlias = "Text | Reasoning | ToolText"


@dataclass(frozen=True)
class Text:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """The next piece of the model's reasoning before the answer."""

    text: str


@dataclass(frozen=True)
class ToolText:
    """A tool call as the model wrote it, without its markers."""

    text: str


class MarkerSplitter:
    """Splits streamed text at markers, each of which switches to another channel.

    `markers` maps a channel to the markers that are looked for in it, each with the channel it
    switches to. Text at the end is held back as long as it may be the beginning of a marker.
    """

    def __init__(
        self, markers: dict[Channel, dict[str, Channel]], channel: Channel = "text"
    ) -> None:
        self._markers = markers
        self._pending = ""
        self.channel = channel

    def push(self, text: str) -> list[tuple[Channel, str]]:
        """Add text and return the pieces that are now certain, in order.

        A piece may be empty: a marker ended its channel straight away.
        """
        text = self._pending + text
        pieces: list[tuple[Channel, str]] = []
        while self.channel != "end":
            markers = self._markers.get(self.channel, {})
            hits = [(start, marker) for marker in markers if (start := text.find(marker)) >= 0]
            if not hits:
                break
            # The marker that ends first: character by character, it would have been seen first.
            start, marker = min(hits, key=lambda hit: (hit[0] + len(hit[1]), hit[0]))
            pieces.append((self.channel, text[:start]))
            self.channel = markers[marker]
            text = text[start + len(marker) :]
        if self.channel == "end":
            self._pending = ""
            return pieces
        markers = self._markers.get(self.channel, {})
        overlap = max((_overlap(text, marker) for marker in markers), default=0)
        self._pending = text[len(text) - overlap :]
        return [*pieces, (self.channel, text[: len(text) - overlap])]

    def flush(self) -> tuple[Channel, str]:
        """Return the text that was held back. Call it when no more text follows."""
        pending, self._pending = self._pending, ""
        return self.channel, pending


def _overlap(text: str, marker: str) -> int:
    """Return how many characters at the end of the text could begin the marker."""
    longest = min(len(text), len(marker) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(marker[:n])), 0)


class Decoder:
    """Detokenises one answer and sorts it into text, reasoning and tool calls.

    `stop` holds the stop strings; `tools` says whether tool calls are to be recognised. `opened`
    says that the prompt itself opened the reasoning, as some chat templates do.
    """

    def __init__(
        self, tokenizer: Any, stop: Sequence[str], *, tools: bool, opened: bool = False
    ) -> None:
        self._detokenizer = tokenizer.detokenizer
        self._splitter = MarkerSplitter(
            _markers(tokenizer, stop, tools=tools), "reasoning" if opened else "text"
        )
        self._tool_text: str | None = None
        # Models write line breaks around reasoning and tool calls: they don't belong to the answer.
        self._strip_next = opened

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the answer."""
        return self._splitter.channel == "end"

    def push(self, token: int) -> list[Piece]:
        """Return the pieces that a token completes."""
        self._detokenizer.add_token(token)
        return self._pieces(self._splitter.push(self._detokenizer.last_segment))

    def finish(self) -> list[Piece]:
        """Return the remaining pieces. Call it when no more tokens follow."""
        if self.stopped:
            return []
        self._detokenizer.finalize()
        parts = self._splitter.push(self._detokenizer.last_segment)
        pieces = self._pieces([*parts, self._splitter.flush()])
        if self._tool_text is not None:
            pieces.append(ToolText(self._tool_text))
        return pieces

    def _pieces(self, parts: list[tuple[Channel, str]]) -> list[Piece]:
        pieces: list[Piece] = []
        for channel, text in parts:
            if channel != "tool" and self._tool_text is not None:
                pieces.append(ToolText(self._tool_text))
                self._tool_text, self._strip_next = None, True
            if channel == "reasoning":
                self._strip_next = True
                if text:
                    pieces.append(Reasoning(text))
            elif channel == "tool":
                self._tool_text = (self._tool_text or "") + text
            else:
                answer = text.lstrip() if self._strip_next else text
                if answer:
                    self._strip_next = False
                    pieces.append(Text(answer))
        return pieces


def _markers(
    tokenizer: Any, stop: Sequence[str], *, tools: bool
) -> dict[Channel, dict[str, Channel]]:
    in_text: dict[str, Channel] = dict.fromkeys(stop, "end")
    markers: dict[Channel, dict[str, Channel]] = {"text": in_text}
    if tokenizer.has_thinking:
        in_text[tokenizer.think_start] = "reasoning"
        markers["reasoning"] = {tokenizer.think_end: "text"}
    if tools:
        in_text[tokenizer.tool_call_start] = "tool"
        markers["tool"] = {tokenizer.tool_call_end: "text"}
    return markers
