"""What only Gemini's replies look like."""

from __future__ import annotations

from typing import Any

import pytest

from llm_tiered import gemini

BLOCKED = {"promptFeedback": {"blockReason": "SAFETY"}}


def _reply(reason: str) -> dict[str, Any]:
    return {"candidates": [{"finishReason": reason}], "modelVersion": "gemini-3-flash"}


@pytest.mark.parametrize(
    ("reply", "is_reply", "finish", "block"),
    [
        (_reply("STOP"), True, "STOP", None),
        (_reply("MAX_TOKENS"), True, "MAX_TOKENS", None),
        (BLOCKED, True, None, "SAFETY"),
        ({"candidates": []}, True, None, None),
        ({"candidates": None, "promptFeedback": None}, True, None, None),
        ({"choices": [{"finish_reason": "stop"}]}, False, None, None),
        ("text", False, None, None),
        (None, False, None, None),
    ],
)
def test_how_a_reply_ended(
    reply: Any, is_reply: bool, finish: str | None, block: str | None
) -> None:
    """The reasons are read from any reply, and from nothing else."""
    assert gemini.is_reply(reply) is is_reply
    assert gemini.finish_reason(reply) == finish
    assert gemini.block_reason(reply) == block
    assert gemini.is_complete(reply) is (finish == "STOP")


@pytest.mark.parametrize(
    ("reply", "version"),
    [(_reply("STOP"), "gemini-3-flash"), ({}, None), ({"modelVersion": 3}, None), (None, None)],
)
def test_the_version_that_answered(reply: Any, version: str | None) -> None:
    """The version is text, or unknown."""
    assert gemini.model_version(reply) == version


def test_tokens_with_prices_of_their_own() -> None:
    """Cached tokens and those of audio are counted, and everything else is left out."""
    audio = [{"modality": "TEXT", "tokenCount": 5}, {"modality": "AUDIO", "tokenCount": 7}]
    details = {"cachedContentTokenCount": 4, "promptTokensDetails": audio}
    assert gemini.token_details(details) == (4, 7, 0)
    assert gemini.token_details({"cacheTokensDetails": audio}) == (0, 0, 7)
    assert gemini.token_details({}) == (0, 0, 0)


def test_keys_are_hidden() -> None:
    """What looks like one of Google's keys is replaced."""
    assert gemini.hide_keys(f"wrong key AIza{'x' * 35}.") == "wrong key [key]."
