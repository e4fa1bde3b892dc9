"""llm's events → a response of OpenAI's Responses API, whole or in events."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from ..logprobs import of_event
from . import objects
from .replies import finish_reason, function_calls, sse, usage_of
from .stop import Stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm.parts import StreamEvent

    from .asking import ChatRequest


class ItemsReply:
    """The answer to a request, as items: thoughts, a message, calls of tools."""

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._response = request.response
        # An answer that is not to be stored has an id that leads nowhere.
        self._id = self._response.id if request.chat.store else uuid.uuid4().hex[:26]
        self._stop = Stop(request.asked.stop)
        self._created = int(time.time())
        self._items: list[dict[str, Any]] = []
        self._open: str | None = None
        self._pieces: list[str] = []
        # The tokens of the open item, and how many of them have been sent.
        self._tokens: list[dict[str, Any]] = []
        self._tokens_sent = 0
        self._sent = 0

    def keep(self, event: StreamEvent) -> None:
        """Keep an event for the whole response."""
        for _ in self._events(event):
            pass

    def whole(self) -> dict[str, Any]:
        """Return the response, once it is done."""
        for _ in self._last_events():
            pass
        return self._form()

    def chunk(self, event: StreamEvent) -> bytes:
        """Return OpenAI's events for one of llm's; empty if it has nothing to show."""
        return b"".join(map(self._sse, self._events(event)))

    def last_chunks(self) -> Iterator[bytes]:
        """Yield the events after llm's last one, once the response is done."""
        yield from map(self._sse, self._last_events())
        form = self._form()
        yield self._sse({"type": f"response.{form['status']}", "response": form})

    def _events(self, event: StreamEvent) -> Iterator[dict[str, Any]]:
        if event.type == "text":
            self._tokens += of_event(event)
        text = self._stop.take(event.chunk) if event.type == "text" else event.chunk
        if event.type in objects.KINDS and text:
            yield from self._add(event.type, text)

    def _last_events(self) -> Iterator[dict[str, Any]]:
        if rest := self._stop.rest():
            yield from self._add("text", rest)
        yield from self._close(self._status())
        for call in function_calls(self._response):
            yield from self._call(call["id"], call["function"])

    def _call(self, call_id: str, function: dict[str, str]) -> Iterator[dict[str, Any]]:
        name, arguments = function["name"], function["arguments"]
        values = {"call_id": call_id, "name": name, "arguments": ""}
        item = objects.item("function_call", self._id, len(self._items), **values)
        self._items.append(item)
        yield self._item_event("added", dict(item))
        event = {"type": "response.function_call_arguments", **self._place()}
        yield {**event, "type": f"{event['type']}.delta", "delta": arguments}
        yield {**event, "type": f"{event['type']}.done", "arguments": arguments, "name": name}
        item |= {"arguments": arguments, "status": "completed"}
        yield self._item_event("done", item)

    def _add(self, kind: str, text: str) -> Iterator[dict[str, Any]]:
        """Yield the events for a piece of text, which goes on with the open item or begins one."""
        if self._open != kind:
            yield from self._close()
            self._open = kind
            self._items.append(objects.text_item(kind, self._id, len(self._items)))
            yield self._item_event("added", dict(self._items[-1]))
            yield self._part_event("added", objects.part(kind, ""))
        self._pieces.append(text)
        tokens = self._tokens[self._tokens_sent :] if kind == "text" else []
        self._tokens_sent += len(tokens)
        yield self._text_event(kind, "delta", delta=text, tokens=tokens)

    def _close(self, status: str = "completed") -> Iterator[dict[str, Any]]:
        """Yield the events that end the open item, if there is one."""
        kind, self._open = self._open, None
        if kind is None:
            return
        text, self._pieces = "".join(self._pieces), []
        tokens: list[dict[str, Any]] = []
        if kind == "text":
            tokens, self._tokens, self._tokens_sent = self._tokens, [], 0
        part, item = objects.part(kind, text, tokens), self._items[-1]
        item |= {"content": [part], "status": status}
        yield self._text_event(kind, "done", text=text, tokens=tokens)
        yield self._part_event("done", part)
        yield self._item_event("done", item)

    def _text_event(
        self, kind: str, what: str, tokens: list[dict[str, Any]], **values: Any
    ) -> dict[str, Any]:
        if kind == "text":
            values["logprobs"] = tokens
        name = f"response.{objects.KINDS[kind][1]}.{what}"
        return {"type": name, **self._place(), "content_index": 0, **values}

    def _part_event(self, what: str, part: dict[str, Any]) -> dict[str, Any]:
        name = f"response.content_part.{what}"
        return {"type": name, **self._place(), "content_index": 0, "part": part}

    def _item_event(self, what: str, item: dict[str, Any]) -> dict[str, Any]:
        index = len(self._items) - 1
        return {"type": f"response.output_item.{what}", "output_index": index, "item": item}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1}

    def _status(self) -> str:
        return objects.status(cut_off=finish_reason(self._response, self._stop) == "length")

    def _form(self, status: str | None = None) -> dict[str, Any]:
        status = status or self._status()
        return objects.response(
            self._id,
            created=self._created,
            status=status,
            model=self._response.resolved_model or self._request.model,
            output=self._items,
            usage=usage_of(self._response) if status != "in_progress" else None,
            store=self._request.chat.store,
            previous=self._request.chat.previous_id,
        )

    def _sse(self, event: dict[str, Any]) -> bytes:
        before = b""
        if not self._sent:
            self._sent = 2
            form = {**self._form("in_progress"), "output": []}
            before = b"".join(
                _numbered({"type": f"response.{what}", "response": form}, number)
                for number, what in enumerate(("created", "in_progress"))
            )
        self._sent += 1
        return before + _numbered(event, self._sent - 1)


def _numbered(event: dict[str, Any], number: int) -> bytes:
    return f"event: {event['type']}\n".encode() + sse({**event, "sequence_number": number})
