"""The names that models of different plugins have for the same option."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llm.models import _BaseModel

logger = logging.getLogger("llm_tiered")

# The sampling options of `tiered`, with the names that models have for them, best first: those of
# most plugins, then those of llm-gemini, OpenAI, llm-ollama, llm-watsonx, llm-gpt4all, llm-mistral.
SAMPLING = {
    "temperature": ("temperature", "temp"),
    "max_tokens": (
        *("max_tokens", "max_output_tokens", "max_completion_tokens"),
        *("num_predict", "max_new_tokens"),
    ),
    "top_p": ("top_p",),
    "seed": ("seed", "random_seed"),
}

# The switch of local models for their thoughts, which is llm-anthropic's and llm-ollama's, too.
_SYNONYMS = SAMPLING | {"thinking": ("thinking", "think")}

# The warnings that this process has given.
_given: set[tuple[str, str]] = set()


def spelling(name: str, model: _BaseModel) -> str | None:
    """The model's own name for an option, or None if it has none.

    A name that the model hides from its users counts only if it is the very same.
    """
    fields = model.Options.model_fields
    if name in fields:
        return name
    names = (each for each in _SYNONYMS.get(name, ()) if each in fields)
    return next((each for each in names if not is_hidden(fields[each])), None)


def is_hidden(field: Any) -> bool:
    """Whether llm does not show a field of a model's options: the model only puts up with it."""
    return any(type(each).__name__ == "SkipJsonSchema" for each in field.metadata)


def warn(model: _BaseModel, *options: Mapping[str, Any]) -> None:
    """Warn of the sampling options that a model has no name for, once each in this process."""
    lacking = [
        name
        for name in _names(options)
        if spelling(name, model) is None and (model.model_id, name) not in _given
    ]
    _given.update((model.model_id, name) for name in lacking)
    if lacking:
        logger.warning(
            "%s has no option for %s, so it answers without", model.model_id, ", ".join(lacking)
        )


def _names(options: Iterable[Mapping[str, Any]]) -> list[str]:
    return [name for name in SAMPLING if any(name in each for each in options)]
