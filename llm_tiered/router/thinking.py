"""Room for thoughts: services count them as output, but max_tokens is about the answer."""

from __future__ import annotations

from typing import Any

from .option_names import is_hidden

# The most tokens for thoughts at each level (https://ai.google.dev/gemini-api/docs/openai has
# Google's for OpenAI's levels); the highest and the default one may use any number of them.
_LEVELS = {"none": 0, "minimal": 1_024, "low": 1_024, "medium": 8_192}
MOST_THOUGHTS = 24_576

# Gemini refuses a larger limit (https://ai.google.dev/gemini-api/docs/models).
MOST_OUTPUT = 65_536

# The options by which the plugins of Google, OpenAI and Anthropic control thinking. Anthropic's
# has one more that switches it on, while the others' models think unless they are told not to.
_BUDGET = "thinking_budget"
_LEVEL = ("thinking_level", "reasoning_effort", "thinking_effort")
_SWITCHES = ("thinking", "thinking_adaptive", _BUDGET, "thinking_effort")

# Ollama's models think unless they are told not to; those that can't hide the option.
_THINK = "think"


def with_room(max_tokens: int, options: Any) -> int:
    """The limit of output tokens that leaves `max_tokens` for the answer.

    `options` are those of the model for the request.
    """
    return max(max_tokens, min(max_tokens + room(options), MOST_OUTPUT))


def room(options: Any) -> int:
    """The most tokens that the model may think with these options, as far as is known."""
    fields = type(options).model_fields
    if _THINK in fields and not is_hidden(fields[_THINK]):
        return 0 if getattr(options, _THINK) is False else MOST_THOUGHTS
    if _BUDGET not in fields and not fields.keys() & set(_LEVEL):
        return 0
    if "thinking" in fields and not any(getattr(options, name, None) for name in _SWITCHES):
        return 0
    budget = getattr(options, _BUDGET, None)
    if budget is not None and budget >= 0:
        return int(budget)
    level = next((value for name in _LEVEL if (value := getattr(options, name, None))), None)
    return _LEVELS.get(getattr(level, "value", level) or "", MOST_THOUGHTS)
