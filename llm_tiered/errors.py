"""The errors that this package raises on purpose.

llm.ModelError
└── TieredError            an error with a message for the user
    ├── ConfigError        the config file or the environment has a mistake
    ├── RequestError       the request can't be served in this form
    │   ├── PromptTooLong  the prompt has more tokens than the model's context holds
    │   └── SchemaMiss     the model's answer is not JSON that fits the schema
    ├── ModelUnavailable   a local model is missing, or can't be used on this machine
    │   ├── DownloadError  a model's files can't be downloaded
    │   ├── DamagedModel   a model's files are incomplete or damaged
    │   ├── NotRunning     the server behind a model is not running
    │   └── MissingModel   the server of a tier does not have its model
    ├── OverBudget         the request might cost more than is left of the budget
    ├── EngineError        MLX failed while loading a model or generating
    ├── IncompleteAnswer   a model's answer ended before it was whole
    │   └── EmptyAnswer    a model's answer ended before it began
    ├── BusyServer         all servers of a tier are busy
    ├── LostServer         a server was lost in the middle of its answer
    ├── BrokenAnswer       a model failed in the middle of its answer
    └── AllTiersFailed     every model of the chain was skipped or failed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import llm

if TYPE_CHECKING:
    from collections.abc import Iterator


class TieredError(llm.ModelError, click.ClickException):
    """An error with a message for the user.

    A command that it ends shows the message without a traceback, in `llm chat` too.
    `message` says what happened, and where, in one or two lines. `fix` is the command or the edit
    that fixes it, if there is one.
    """

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} ({self.fix})" if self.fix else self.message

    def format_message(self) -> str:
        """Return what a command shows."""
        return str(self)


class ConfigError(TieredError):
    """The config file or the environment has a mistake."""


class RequestError(TieredError):
    """The request can't be served in this form."""


class PromptTooLong(RequestError):
    """The prompt has more tokens than the model's context holds."""


class SchemaMiss(RequestError):
    """The model's answer is not JSON that fits the schema."""


class ModelUnavailable(TieredError):
    """A local model is missing, or can't be used on this machine."""


class DownloadError(ModelUnavailable):
    """A model's files can't be downloaded."""


class DamagedModel(ModelUnavailable):
    """A model's files are incomplete or damaged."""


class NotRunning(ModelUnavailable):
    """The server behind a model is not running."""


class MissingModel(ModelUnavailable):
    """The server of a tier does not have its model."""


class OverBudget(TieredError):
    """The request might cost more than is left of the budget."""


class EngineError(TieredError):
    """MLX failed while loading a model or generating."""


class IncompleteAnswer(TieredError):
    """A model's answer ended before it was whole."""


class EmptyAnswer(IncompleteAnswer):
    """A model's answer ended before it began."""


class BusyServer(TieredError):
    """All servers of a tier are busy.

    `retry_after` is the time in seconds until one is free, if it is known.
    """

    def __init__(
        self, message: str, *, fix: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, fix=fix)
        self.retry_after = retry_after


class LostServer(TieredError):
    """A server was lost in the middle of its answer."""


class BrokenAnswer(TieredError):
    """A model failed in the middle of its answer."""


class AllTiersFailed(TieredError):
    """Every model of the chain was skipped or failed.

    `rejected` is what the last of them wrote, if that was JSON which was cut off or did not fit the
    schema, or nothing before the limit of tokens; the response then holds its tokens.
    """

    rejected: str | None = None


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and the errors that led to it, each once."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__
