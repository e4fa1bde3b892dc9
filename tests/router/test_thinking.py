"""The limit of output tokens that leaves max_tokens for the answer."""

from __future__ import annotations

from enum import Enum
from typing import Any

import llm
import pytest
from llm.default_plugins import openai_models

from llm_tiered.mlx.options import MlxOptions
from llm_tiered.router.inner import inner_options
from llm_tiered.router.thinking import MOST_OUTPUT, MOST_THOUGHTS, with_room
from tests.router.plugin_options import Claude, Ollama, OllamaThinking

THINKER, LEVELLED = "gemini/gemini-2.5-flash", "gemini/gemini-3.6-flash"


class Level(str, Enum):
    """A level as llm's plugins declare them."""

    LOW = "low"


class Levelled(llm.Options):
    """The options of a model with levels."""

    max_tokens: int | None = None
    thinking_level: Level | None = None


def gemini(model: str, **options: Any) -> Any:
    """The options of one of llm-gemini's models."""
    return llm.get_model(model).Options(**options)


CASES = [
    (gemini(THINKER), MOST_THOUGHTS),
    (gemini(THINKER, thinking_budget=-1), MOST_THOUGHTS),
    (gemini(THINKER, thinking_budget=0), 0),
    (gemini(THINKER, thinking_budget=2_000), 2_000),
    (gemini(LEVELLED), MOST_THOUGHTS),
    (gemini(LEVELLED, thinking_level="minimal"), 1_024),
    (gemini(LEVELLED, thinking_level="low"), 1_024),
    (gemini(LEVELLED, thinking_level="medium"), 8_192),
    (gemini(LEVELLED, thinking_level="high"), MOST_THOUGHTS),
    (gemini("gemini/gemma-4-31b-it"), 0),
    (openai_models.build_options_class(reasoning=True)(), MOST_THOUGHTS),
    (openai_models.build_options_class(reasoning=True)(reasoning_effort="low"), 1_024),
    (openai_models.build_options_class()(), 0),
    (Claude(), 0),
    (Claude(thinking=True), MOST_THOUGHTS),
    (Claude(thinking_budget=3_000), 3_000),
    (Claude(thinking_effort="medium"), 8_192),
    (Levelled(thinking_level=Level.LOW), 1_024),
    (MlxOptions(thinking=True), 0),
    (Ollama(), 0),
    (OllamaThinking(), MOST_THOUGHTS),
    (OllamaThinking(think=True), MOST_THOUGHTS),
    (OllamaThinking(think=False), 0),
]


def test_room() -> None:
    """The room is what the request lets the model think, and none where it does not think."""
    wrong = {
        repr(options): (limit - 100, room)
        for options, room in CASES
        if (limit := with_room(100, options)) != 100 + room
    }
    assert wrong == {}


def test_no_more_than_the_service_takes() -> None:
    """The room ends at the largest limit that Gemini takes, but a larger one is left as it is."""
    assert with_room(60_000, gemini(THINKER)) == MOST_OUTPUT
    assert with_room(70_000, gemini(THINKER)) == 70_000


@pytest.mark.parametrize(
    ("tier", "requested", "limit"),
    [
        ({"max_output_tokens": 900}, {}, 900),
        ({"max_tokens": 900}, {}, 900 + MOST_THOUGHTS),
        ({"max_output_tokens": 900}, {"max_tokens": 50}, 50 + MOST_THOUGHTS),
        ({"max_tokens": 900}, {"max_output_tokens": 50}, 50),
        ({"max_tokens": 900, "thinking_budget": 0}, {}, 900),
        ({"max_tokens": 900}, {"thinking_budget": 100}, 1_000),
        ({"thinking_budget": 512}, {"max_tokens": 50}, 562),
        ({}, {}, None),
    ],
    ids=str,
)
def test_only_max_tokens_gets_room(
    tier: dict[str, Any], requested: dict[str, Any], limit: int | None
) -> None:
    """`max_tokens` is about the answer; the model's own option is sent as the config has it."""
    options: Any = inner_options(llm.get_model(THINKER), tier, requested)
    assert options.max_output_tokens == limit
