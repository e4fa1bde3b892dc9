"""A server without a model, which answers at a steady pace: `python -m llm_tiered.bench.pacing`.

An answer has `max_tokens` tokens, and `seed` milliseconds between two of them.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from typing import Any

_TOKEN = b'{"content":"word "}'
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(choices: bytes, usage: bytes = b"null") -> bytes:
    return (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"paced",'
        b'"choices":[%b],"usage":%b}\n\n' % (choices, usage)
    )


def _choice(delta: bytes, reason: bytes = b"null") -> bytes:
    return b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}' % (delta, reason)


def _piece(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            body: dict[str, Any] = json.loads(
                await reader.readexactly(int(fields[b"content-length"]))
            )
            tokens, pause = body["max_tokens"], body.get("seed", 0) / 1e3
            writer.write(_HEAD)
            token = _piece(_event(_choice(_TOKEN)))
            for _ in range(tokens):
                writer.write(token)
                await (asyncio.sleep(pause) if pause else writer.drain())
            usage = b'{"prompt_tokens":7,"completion_tokens":%d,"total_tokens":%d}'
            last = [
                _event(_choice(b"{}", b'"stop"')),
                _event(b"", usage % (tokens, tokens + 7)),
                b"data: [DONE]\n\n",
            ]
            writer.write(b"".join([*map(_piece, last), b"0\r\n\r\n"]))
            await writer.drain()
    writer.close()


async def _serve(port: int) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[sys.argv.index("--port") + 1])))
