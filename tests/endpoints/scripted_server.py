"""A server that speaks OpenAI's API and does what a test's script says, on loopback."""

from __future__ import annotations

import json
import threading
from collections import deque
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.loopback import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    # Writes the reply to a request.
    Reply: TypeAlias = Callable[["Handler"], None]

MODEL = "big"
ID = f"server/medium/{MODEL}"

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
STREAM = "text/event-stream; charset=utf-8"


class ScriptedServer:
    """Answers one request after the other with the next of its `replies`, or else with "Hello".

    `bodies` and `headers` are those of the requests for answers. `paths` are all that were asked
    for. `models` may also be the bytes of a list that is not one. `gone` is set once a client has
    left before the end of a reply.
    """

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.models: list[str] | bytes | None = [MODEL]
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.paths: list[str] = []
        self.release = threading.Event()
        self.gone = threading.Event()

    def __enter__(self) -> ScriptedServer:
        server = self

        class Bound(Handler):
            scripted = server

        self._serving = ExitStack()
        self.port = self._serving.enter_context(serving(Bound, self.release))
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.close()

    @property
    def address(self) -> str:
        """The address for the config."""
        return f"http://127.0.0.1:{self.port}/v1"

    def say(self, *replies: Reply) -> None:
        """Add replies."""
        self.replies.extend(replies)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    scripted: ScriptedServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """List the models."""
        self.scripted.paths.append(self.path)
        models = self.scripted.models
        if models is None or self.path != "/v1/models":
            self.whole(404, b"", "text/plain")
            return
        if not isinstance(models, bytes):
            data = [{"id": name, "object": "model"} for name in models]
            models = json.dumps({"object": "list", "data": data}).encode()
        self.whole(200, models, "application/json")

    def do_POST(self) -> None:
        """Reply to a request for an answer."""
        scripted = self.scripted
        scripted.paths.append(self.path)
        scripted.headers.append({name.lower(): value for name, value in self.headers.items()})
        scripted.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        reply = scripted.replies.popleft() if scripted.replies else hello
        try:
            reply(self)
        except (BrokenPipeError, ConnectionResetError):
            scripted.gone.set()
            self.close_connection = True

    def whole(self, status: int, data: bytes, kind: str, **headers: str) -> None:
        """Send a reply that is not streamed."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        # A connection that is kept would keep its thread until the client has closed it.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> None:
        """Begin a stream."""
        self.send_response(200)
        self.send_header("Content-Type", STREAM)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()

    def piece(self, data: bytes) -> None:
        """Send a piece of a stream; an empty one ends it."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()


def event(value: Any) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: Any = None, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One chunk of a chat completion; `logprobs` belong to its choice."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    if "logprobs" in fields:
        choice["logprobs"] = fields.pop("logprobs")
    form = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return form | {"choices": [choice]} | fields


def text(*pieces: str) -> list[dict[str, Any]]:
    """The chunks of a text."""
    return [chunk({"content": piece}) for piece in pieces]


def streamed(
    *chunks: Any, finish: str | None = "stop", usage: Any = USAGE, done: bool = True
) -> Reply:
    """A stream of these chunks, which ends as the API has it, or without some of that."""
    data = [event(each) for each in chunks]
    if finish:
        data.append(event(chunk(finish=finish)))
    if usage is not None:
        data.append(event(chunk() | {"choices": [], "usage": usage}))
    if done:
        data.append(b"data: [DONE]\n\n")

    def reply(handler: Handler) -> None:
        handler.begin()
        for piece in (*data, b""):
            handler.piece(piece)

    return reply


def says(*pieces: str, **ending: Any) -> Reply:
    """A stream of this text."""
    return streamed(*text(*pieces), **ending)


hello = says("Hel", "lo")


def cut(*chunks: Any) -> Reply:
    """A stream whose connection breaks off."""

    def reply(handler: Handler) -> None:
        handler.begin()
        for each in chunks:
            handler.piece(event(each))
        handler.close_connection = True

    return reply


def silent(*chunks: Any) -> Reply:
    """A stream that stops, while the connection stays open."""

    def reply(handler: Handler) -> None:
        handler.begin()
        for each in chunks:
            handler.piece(event(each))
        handler.scripted.release.wait(60)
        handler.close_connection = True

    return reply


def endless(word: str) -> Reply:
    """A stream that goes on until the client leaves."""

    def reply(handler: Handler) -> None:
        handler.begin()
        while not handler.scripted.release.wait(0.001):
            handler.piece(event(chunk({"content": word})))

    return reply


def whole(status: int, body: Any, kind: str = "application/json", **headers: str) -> Reply:
    """A reply that is not streamed: JSON, or text if the body is one."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return lambda handler: handler.whole(status, data, kind, **headers)


def refused(status: int, message: str, **headers: str) -> Reply:
    """An error as OpenAI's API has it."""
    return whole(status, {"error": {"message": message, "type": "error"}}, **headers)


def raw(*events: bytes) -> Reply:
    """A stream of these bytes."""

    def reply(handler: Handler) -> None:
        handler.begin()
        for each in (*events, b""):
            handler.piece(each)

    return reply
