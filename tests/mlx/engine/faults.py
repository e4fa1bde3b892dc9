"""Failures on purpose."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest


class Fault(Exception):
    """A failure that a test has caused."""


class FailingCalls:
    """Makes some calls of a function fail with "out of memory", and counts the failures.

    `at` holds the numbers of the failing calls, from 0; without it, every call fails. With `late`,
    the function is called first.
    """

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        target: Any,
        name: str,
        at: Iterable[int] | None = None,
        *,
        late: bool = False,
    ) -> None:
        self.failures = 0
        original, calls = getattr(target, name), itertools.count()
        failing = None if at is None else set(at)

        def call(*args: Any, **kwargs: Any) -> Any:
            fails = failing is None or next(calls) in failing
            result = None if fails and not late else original(*args, **kwargs)
            if fails:
                self.failures += 1
                raise Fault("out of memory")
            return result

        patch.setattr(target, name, call)
