"""Finish reasons in the forms in which services and plugins leave them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from llm.default_plugins.openai_models import combine_chunks
from llm.utils import remove_dict_none_values

from llm_tiered.endings import ending


def streamed(reason: str | None) -> Any:
    """What llm's own plugin keeps of a streamed chat completion that ended this way."""
    choices = [
        SimpleNamespace(
            delta=SimpleNamespace(role="assistant", content="Hello"),
            finish_reason=finish,
            logprobs=None,
        )
        for finish in (None, reason)
    ]
    chunks = [
        SimpleNamespace(
            choices=[choice], usage=None, object="chat.completion.chunk", model="m", id="1"
        )
        for choice in choices
    ]
    return remove_dict_none_values(combine_chunks(chunks))


CASES: list[tuple[Any, str | None]] = [
    (None, None),
    ("text", None),
    ({}, None),
    ({"content": "x", "other": 1}, None),
    ({"finish_reason": None}, None),
    # Local models
    ({"finish_reason": "stop", "prompt_tps": 3.5}, "whole"),
    ({"finish_reason": "length"}, "limit"),
    # Gemini
    ({"candidates": [{"finishReason": "STOP"}]}, "whole"),
    ({"candidates": [{"finishReason": "MAX_TOKENS"}]}, "limit"),
    ({"candidates": [{"finishReason": "PROHIBITED_CONTENT"}]}, "broken"),
    ({"candidates": [{"finishReason": "SOMETHING_NEW"}]}, "broken"),
    ({"candidates": [{"index": 0}]}, "broken"),
    ({"candidates": []}, "broken"),
    ({"promptFeedback": {"blockReason": "SAFETY"}}, "broken"),
    # OpenAI and what imitates it
    (streamed("stop"), "whole"),
    (streamed("tool_calls"), "whole"),
    (streamed("length"), "limit"),
    (streamed("content_filter"), "broken"),
    (streamed(None), "broken"),
    ({"choices": [{"finish_reason": "stop"}]}, "whole"),
    ({"choices": [{"finish_reason": "length"}]}, "limit"),
    ({"choices": [{"finish_reason": "eos_token"}]}, "unknown"),
    ({"choices": [{"message": {}}]}, None),
    ({"object": "chat.completion", "choices": [{"message": {}}]}, "broken"),
    ({"choices": [7]}, "broken"),
    ({"object": "response", "status": "completed"}, "whole"),
    ({"object": "response", "status": "incomplete"}, "limit"),
    ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "limit"),
    ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "broken"),
    ({"status": "completed", "incomplete_details": None}, "whole"),
    ({"object": "response", "status": "failed"}, "broken"),
    ({"object": "text_completion", "content": "x", "usage": {}}, None),
    # Anthropic, Bedrock, Ollama, Mistral, Cohere
    ({"type": "message", "stop_reason": "end_turn"}, "whole"),
    ({"type": "message", "stop_reason": "tool_use"}, "whole"),
    ({"type": "message", "stop_reason": "max_tokens"}, "limit"),
    ({"type": "message", "stop_reason": "refusal"}, "broken"),
    ({"type": "message", "stop_reason": None}, "broken"),
    ({"stopReason": "max_tokens"}, "limit"),
    ({"done": True, "done_reason": "stop"}, "whole"),
    ({"done": True, "done_reason": "length"}, "limit"),
    ({"done": False}, "broken"),
    ({"choices": [{"finish_reason": "model_length"}]}, "limit"),
    ({"finish_reason": "COMPLETE"}, "whole"),
]


def test_endings() -> None:
    """The known forms are read, and nothing is made of the others."""
    wrong = [
        (reply, how)
        for reply, how in CASES
        if (ended.how if (ended := ending(reply)) else None) != how
    ]
    assert wrong == []


def test_reasons() -> None:
    """The reason is the service's own word, and missing if the reply lacks it."""
    replies: list[Any] = [{"promptFeedback": {"blockReason": "SAFETY"}}, streamed(None)]
    replies.append({"stop_reason": "refusal"})
    endings = [ending(reply) for reply in replies]
    assert [ended and ended.reason for ended in endings] == ["SAFETY", None, "refusal"]
