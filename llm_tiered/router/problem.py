"""Why a model can't answer, or did not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Why a model can't answer, or did not.

    `fix` is the command that fixes it. A `transient` problem is worth a retry, unless the service's
    library has `retried` the request itself. One that
    `cools_down` would hit the next request too, so the model is left alone for a while. One that
    `escalates` is an answer that is too weak: larger models are tried, and if none of them answers,
    a `usable` one is shown. Whatever the problem is, the same model first gets the `correction`, if
    there is one.

    A service that is `at_limit` will answer whoever waits: after `retry_after` seconds, if it
    says so. One that `refuses_key` will answer this request with another key, or never.
    """

    reason: str
    fix: str | None = None
    transient: bool = False
    retried: bool = False
    cools_down: bool = False
    escalates: bool = False
    usable: bool = False
    correction: str | None = None
    at_limit: bool = False
    retry_after: float | None = None
    refuses_key: bool = False
