"""Options that a request to `tiered` has for the models of the tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from ..config.settings import Settings, load_settings
from ..errors import TieredError
from ..wording import did_you_mean
from .registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_UNKNOWN = "neither tiered nor the model of a tier has this option"

# The options of the tiers' models with the settings last in force: a batch checks every row.
_last: tuple[Settings | None, list[type[llm.Options]]] = (None, [])


def check(options: Mapping[str, Any], own: Iterable[str]) -> None:
    """Raise pydantic.ValidationError if no model has an option, or none accepts its value.

    `own` are the names of the options of `tiered` itself, for suggestions.
    """
    try:
        kinds = _kinds(load_settings())
    except TieredError:
        # The request reports what is wrong with the config.
        return
    problems = [
        InitErrorDetails(type=PydanticCustomError("option", message), loc=(name,), input=value)
        for name, value in options.items()
        if (message := _problem(name, value, kinds, own))
    ]
    if problems:
        raise ValidationError.from_exception_data("TieredOptions", problems)


def names() -> set[str]:
    """Return the names of all options of the tiers' models. Raises ConfigError."""
    return {name for kind in _kinds(load_settings()) for name in kind.model_fields}


def _problem(
    name: str, value: Any, kinds: list[type[llm.Options]], own: Iterable[str]
) -> str | None:
    message = ""
    for kind in kinds:
        if name in kind.model_fields:
            try:
                kind(**{name: value})
            except ValidationError as error:
                message = message or error.errors()[0]["msg"]
            else:
                return None
    if message:
        return message
    known = {*own, *(field for kind in kinds for field in kind.model_fields)}
    hint = did_you_mean(name, sorted(known))
    return f"{_UNKNOWN}, {hint}" if hint else _UNKNOWN


def _kinds(settings: Settings) -> list[type[llm.Options]]:
    global _last  # noqa: PLW0603 - there is one config
    if _last[0] is not settings:
        registry = Registry(llm.get_models_with_aliases())
        ids = [tier.model_id for tier in settings.tiers]
        models = [registry.get(model_id) for model_id in ids if model_id in registry]
        _last = (settings, [model.Options for model in models])
    return _last[1]
