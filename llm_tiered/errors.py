"""Everything this package raises on purpose.

llm.ModelError
└── TieredError            one or two lines for people: what happened, what to do
    ├── ConfigError        the config file or the environment says something wrong
    ├── RequestError       the request can't be served as it was put
    │   └── PromptTooLong  more tokens than the model's context holds
    ├── ModelUnavailable   a local model is not there, or can't be used
    │   ├── DownloadError  its files could not be fetched
    │   └── DamagedModel   its files are there, but not whole
    ├── OverBudget         the request might cost more than the budget has left
    ├── EngineError        MLX failed while loading or generating
    ├── EmptyAnswer        a model ended its answer before it began
    ├── BrokenAnswer       a model failed in the middle of its answer
    └── AllTiersFailed     every model of the chain was skipped or failed
"""

from __future__ import annotations

import llm


class TieredError(llm.ModelError):
    """An error whose message is written for the person who reads it.

    `fix` is the command or the edit that mends it, where there is one.
    """

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} ({self.fix})" if self.fix else self.message


class ConfigError(TieredError):
    """The config file or the environment says something wrong."""


class RequestError(TieredError):
    """The request can't be served as it was put."""


class PromptTooLong(RequestError):
    """The prompt has more tokens than the model's context holds."""


class ModelUnavailable(TieredError):
    """A local model is not there, or can't be used on this machine."""


class DownloadError(ModelUnavailable):
    """A model's files could not be fetched."""


class DamagedModel(ModelUnavailable):
    """A model's files are there, but not whole."""


class OverBudget(TieredError):
    """The request might cost more than the budget has left."""


class EngineError(TieredError):
    """MLX failed while loading or generating."""


class EmptyAnswer(TieredError):
    """A model ended its answer before it began."""


class BrokenAnswer(TieredError):
    """A model failed in the middle of its answer."""


class AllTiersFailed(TieredError):
    """Every model of the chain was skipped or failed."""
