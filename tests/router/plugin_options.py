"""The options of models of other plugins, as far as they matter here."""

from __future__ import annotations

from typing import Annotated

import llm
from pydantic import AfterValidator
from pydantic.json_schema import SkipJsonSchema


def _reject(think: bool | None) -> None:
    if think:
        raise ValueError("this model does not support thinking")


class Ollama(llm.Options):
    """The options of llm-ollama for a model that can't think."""

    temperature: float | None = None
    seed: int | None = None
    num_predict: int | None = None
    top_p: float | None = None
    think: SkipJsonSchema[Annotated[bool | None, AfterValidator(_reject)]] = None


class OllamaThinking(Ollama):
    """The options of llm-ollama for a model that can."""

    think: bool | None = None


class GPT4All(llm.Options):
    """The options of llm-gpt4all."""

    max_tokens: int = 200
    temp: float = 0.7
    top_p: float = 0.1


class Mistral(llm.Options):
    """The options of llm-mistral."""

    temperature: float | None = None
    max_tokens: int | None = None
    random_seed: int | None = None


class Claude(llm.Options):
    """The options of llm-anthropic."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    thinking: bool | None = None
    thinking_budget: int | None = None
    thinking_effort: str | None = None
