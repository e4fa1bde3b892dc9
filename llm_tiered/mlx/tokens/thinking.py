"""Whether an answer begins with the model's thoughts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

# `open`: the prompt ends inside the thoughts. `possible`: the model decides whether it thinks.
Thinking: TypeAlias = Literal["never", "possible", "open"]

# The markers of models that have no tokens for them, such as Phi-4-mini-reasoning. The first one
# counts only as a line at the beginning of an answer: anywhere else it is text.
SPELLED_START, SPELLED_END = "<think>\n", "</think>"

# The end of a prompt in which a template may open or close the thoughts with such a marker.
ENDING = 16  # tokens


def thinking_after(tokenizer: Any, prompt: Sequence[int]) -> Thinking:
    """Return whether an answer to this prompt, given as tokens, begins with thoughts.

    Many models that never think have the markers in their vocabulary: for them <think> is text.
    """
    if not tokenizer.has_thinking:
        return _spelled_after(tokenizer, prompt)
    end = len(prompt)
    while end and not tokenizer.decode([prompt[end - 1]]).strip():
        end -= 1
    if _ends_with(prompt[:end], tokenizer.think_start_tokens):
        return "open"
    # A template that is told not to think writes empty thoughts.
    told_not_to = _ends_with(prompt[:end], tokenizer.think_end_tokens)
    return "never" if told_not_to or not _template_thinks(tokenizer) else "possible"


def _spelled_after(tokenizer: Any, prompt: Sequence[int]) -> Thinking:
    """Return the same for a model that has no tokens for the markers."""
    marker = SPELLED_START.strip()
    if any(marker in text for text in _templates(tokenizer)):
        ending = tokenizer.decode(list(prompt[-ENDING:])).rstrip()
        if ending.endswith(marker):
            return "open"
        if ending.endswith(SPELLED_END):
            return "never"
    return "possible"


def _ends_with(tokens: Sequence[int], end: Sequence[int]) -> bool:
    return tuple(tokens[-len(end) :]) == tuple(end)


def _template_thinks(tokenizer: Any) -> bool:
    """Whether the chat template knows of thoughts, or can't be looked into."""
    template = tokenizer.chat_template
    if template is None or len(tokenizer.think_start_tokens) > 1:
        return bool(tokenizer.has_chat_template)
    markers = (tokenizer.think_start, tokenizer.think_end)
    return any(marker in text for text in _templates(tokenizer) for marker in markers)


def _templates(tokenizer: Any) -> list[str]:
    """Return the texts of the model's chat templates."""
    template = tokenizer.chat_template or ""
    return list(template.values()) if isinstance(template, dict) else [template]
