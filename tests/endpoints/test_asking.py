"""A prompt to a server and its answer, through `tiered`, sync and async."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.endpoints.scripted_server import ID, MODEL

if TYPE_CHECKING:
    from tests.endpoints.scripted_server import ScriptedServer
    from tests.toys import Ask


async def test_an_answer(ask: Ask, server: ScriptedServer) -> None:
    """The answer is streamed, and the response knows who gave it and what it took."""
    response = ask.model.prompt("Say hello.", tier="medium", system="Be brief.")
    events = await ask.events(response)
    assert [(event.type, event.chunk) for event in events] == [("text", "Hel"), ("text", "lo")]
    assert (response.resolved_model, response.input_tokens, response.output_tokens) == (ID, 7, 3)
    assert response.response_json["response"] == {
        "server": server.address,
        "id": "chatcmpl-1",
        "model": MODEL,
        "finish_reason": "stop",
    }
    assert server.bodies == [
        {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Say hello."},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]
