"""Tokens → what they mean: answer, reasoning, tool calls, and where the answer ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ..engine.requests import Reasoning, Text, ToolText

if TYPE_CHECKING:
    from collections.abc import Sequence

Channel = Literal["text", "reasoning", "tool", "end"]


class Splitter:
    """Splits a text that comes in pieces at markers, each of which leads to a channel.

    The end of the text is held back for as long as it may be the beginning of a marker.
    """

    def __init__(
        self, markers: dict[Channel, dict[str, Channel]], channel: Channel = "text"
    ) -> None:
        self._markers = markers
        self._held = ""
        self.channel = channel

    def push(self, text: str) -> list[tuple[Channel, str]]:
        """Add a piece; gives what is known by now, in order. Empty pieces mark a change."""
        text = self._held + text
        pieces: list[tuple[Channel, str]] = []
        while self.channel != "end":
            markers = self._markers.get(self.channel, {})
            found = [(at, marker) for marker in markers if (at := text.find(marker)) >= 0]
            if not found:
                break
            # The one that is complete first: however the text was cut, it would have been seen.
            at, marker = min(found, key=lambda hit: (hit[0] + len(hit[1]), hit[0]))
            pieces.append((self.channel, text[:at]))
            self.channel = markers[marker]
            text = text[at + len(marker) :]
        if self.channel == "end":
            self._held = ""
            return pieces
        markers = self._markers.get(self.channel, {})
        held = max((_overlap(text, marker) for marker in markers), default=0)
        self._held = text[len(text) - held :]
        return [*pieces, (self.channel, text[: len(text) - held])]

    def flush(self) -> tuple[Channel, str]:
        """What was held back, once no more is to come."""
        held, self._held = self._held, ""
        return self.channel, held


def _overlap(text: str, marker: str) -> int:
    """How many characters at the end of the text are the beginning of the marker."""
    longest = min(len(text), len(marker) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(marker[:n])), 0)


class Decoder:
    """The tokens of one answer → its events.

    `opened` says that the prompt ended inside the thinking, as some templates make it.
    """

    def __init__(
        self, tokenizer: Any, stop: Sequence[str], *, tools: bool, opened: bool = False
    ) -> None:
        self._detokenizer = tokenizer.detokenizer
        self._splitter = Splitter(
            _markers(tokenizer, stop, tools=tools), "reasoning" if opened else "text"
        )
        self._tool: str | None = None
        # Around thinking and tool calls models write line breaks that belong to no answer.
        self._trim = opened

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the answer."""
        return self._splitter.channel == "end"

    def push(self, token: int) -> list[Text | Reasoning | ToolText]:
        """The events that a token brings."""
        self._detokenizer.add_token(token)
        return self._events(self._splitter.push(self._detokenizer.last_segment))

    def finish(self) -> list[Text | Reasoning | ToolText]:
        """The events that are left once no more tokens come."""
        if self.stopped:
            return []
        self._detokenizer.finalize()
        pieces = self._splitter.push(self._detokenizer.last_segment)
        events = self._events([*pieces, self._splitter.flush()])
        if self._tool is not None:
            events.append(ToolText(self._tool))
        return events

    def _events(self, pieces: list[tuple[Channel, str]]) -> list[Text | Reasoning | ToolText]:
        events: list[Text | Reasoning | ToolText] = []
        for channel, text in pieces:
            if channel != "tool" and self._tool is not None:
                events.append(ToolText(self._tool))
                self._tool, self._trim = None, True
            if channel == "reasoning":
                self._trim = True
                if text:
                    events.append(Reasoning(text))
            elif channel == "tool":
                self._tool = (self._tool or "") + text
            else:
                answer = text.lstrip() if self._trim else text
                if answer:
                    self._trim = False
                    events.append(Text(answer))
        return events


def _markers(
    tokenizer: Any, stop: Sequence[str], *, tools: bool
) -> dict[Channel, dict[str, Channel]]:
    text: dict[str, Channel] = dict.fromkeys(stop, "end")
    markers: dict[Channel, dict[str, Channel]] = {"text": text}
    if tokenizer.has_thinking:
        text[tokenizer.think_start] = "reasoning"
        markers["reasoning"] = {tokenizer.think_end: "text"}
    if tools:
        text[tokenizer.tool_call_start] = "tool"
        markers["tool"] = {tokenizer.tool_call_end: "text"}
    return markers
