"""OpenAI's own client and llm itself, asking a server: `python clients.py URL`.

A process of its own, because the tests' one has a stand-in for OpenAI's library. What the clients
get is printed as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import openai
from pydantic import BaseModel

MODEL = "tiered/small"
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
        },
    }
]


class Dog(BaseModel):
    """A dog."""

    name: str


def said(text: str) -> list[Any]:
    """The messages of a client that says this."""
    return [{"role": "user", "content": text}]


def ask(client: openai.OpenAI) -> dict[str, Any]:
    """What the client gets in all kinds of ways."""
    create = client.chat.completions.create
    got: dict[str, Any] = {"models": [model.id for model in client.models.list()][:2]}
    raw = client.chat.completions.with_raw_response.create(
        model="tiered", messages=said("words"), extra_body={"complexity": 2, "local_only": True}
    )
    got["headers"] = raw.headers["x-tiered-source"]
    got["words"] = raw.parse().choices[0].message.content
    stream = create(
        model=MODEL, messages=said("words"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    got["stream"] = [delta.content for delta in deltas]
    got["tokens"] = chunks[-1].usage and chunks[-1].usage.total_tokens
    calls = create(model=MODEL, messages=said("call"), tools=TOOLS).choices[0].message.tool_calls
    got["call"] = calls and calls[0].to_dict()["function"]
    with client.chat.completions.stream(
        model=MODEL, messages=said("call two"), tools=TOOLS
    ) as events:
        done = events.get_final_completion().choices[0]
    parallel = done.message.tool_calls or []
    got["streamed calls"] = [done.finish_reason, len(parallel)]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "2"} for call in parallel]
    message: Any = done.message.to_dict()
    loop = [*said("call two"), message, *results]
    got["results"] = create(model=MODEL, messages=loop, tools=TOOLS).choices[0].message.content
    parsed = client.chat.completions.parse(model=MODEL, messages=said("dog"), response_format=Dog)
    dog = parsed.choices[0].message.parsed
    got["dog"] = dog and dog.name
    got["errors"] = []
    wrong: Any
    for wrong in ({"model": "none"}, {"n": 2}, {"extra_body": {"localonly": 1}}):
        try:
            create(**{"model": MODEL, "messages": said("words"), **wrong})
        except openai.APIStatusError as error:
            got["errors"].append([type(error).__name__, error.code])
    try:
        list(create(model=MODEL, messages=said("break"), stream=True))
    except openai.APIError as error:
        got["broken"] = error.code
    return got


def respond(client: Any) -> dict[str, Any]:
    """What the client gets of the Responses API."""
    create = client.responses.create
    got: dict[str, Any] = {"words": create(model=MODEL, input="words").output_text}
    with client.responses.stream(model=MODEL, input="words") as events:
        got["stream"] = [event.delta for event in events if event.type.endswith("text.delta")]
        got["streamed"] = events.get_final_response().output_text
    tools: Any = [{"type": "function", **TOOLS[0]["function"], "strict": None}]
    asked: Any = said("call")
    called = create(model=MODEL, input=asked, tools=tools)
    [call] = called.output
    got["call"] = [call.type, call.arguments]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "1"}
    got["result"] = create(model=MODEL, input=[*asked, call, result], tools=tools).output_text
    first, second = called, create(model=MODEL, input=[result], previous_response_id=called.id)
    assert client.responses.retrieve(first.id).output == first.output
    got["continued"] = [second.output_text, second.previous_response_id == first.id]
    dog = client.responses.parse(model=MODEL, input="dog", text_format=Dog).output_parsed
    got["dog"] = dog and dog.name
    try:
        list(create(model=MODEL, input="break", stream=True))
    except openai.APIError as error:
        got["broken"] = error.code
    return got


async def ask_many(url: str) -> list[Any]:
    """How many answers an async client gets at the same time, and what it streams."""
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        create = client.chat.completions.create
        answers = await asyncio.gather(
            *(create(model=MODEL, messages=said("words")) for _ in range(6))
        )
        stream = await create(model=MODEL, messages=said("words"), stream=True)
        chunks = [chunk async for chunk in stream]
        events: Any
        async with client.responses.stream(model=MODEL, input="think") as events:
            deltas = [event.delta async for event in events if event.type.endswith("text.delta")]
    return [len({answer.id for answer in answers} | {chunk.id for chunk in chunks}), *deltas]


def ask_llm(url: str, home: Path) -> dict[str, str]:
    """What llm's own OpenAI models get, which are set up in a file."""
    from click.testing import CliRunner

    model = {"model_id": "served", "model_name": MODEL, "api_base": url, "can_stream": True}
    more = {"supports_schema": True, "supports_tools": True}
    home.mkdir(parents=True, exist_ok=True)
    (home / "extra-openai-models.yaml").write_text(json.dumps([model | more]))
    os.environ["LLM_USER_PATH"] = str(home)
    from llm.cli import cli

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["-m", "served", "--key", "none", *arguments])
        return result.output.strip()

    return {
        "words": run("words"),
        "no stream": run("words", "--no-stream"),
        "schema": run("dog", "--schema", "name str"),
        "conversation": run("history", "-c"),
        "tools": run("call two", "--functions", "def add(a: int): return a + 1"),
    }


if __name__ == "__main__":
    url, home = sys.argv[1:]
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        got = ask(client)
        got["responses"] = respond(client)
    got["many"] = asyncio.run(ask_many(url))
    got["llm"] = ask_llm(url, Path(home))
    sys.stdout.write(json.dumps(got))
