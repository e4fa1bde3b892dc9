"""What the attempts of one request cost, written into the ledger while they run.

An attempt is held with its expected cost before it is sent. When it is over, it is settled at what
the model reports; if it broke off without any report, at an estimate; and if nothing was sent, or
the service refused it, at nothing.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ..errors import TieredError
from ..paths import ledger_path

if TYPE_CHECKING:
    from decimal import Decimal

    from llm.models import _BaseModel, _BaseResponse

    from ..config.price import ConfigPrice
    from ..config.sections import Budget
    from ..costs.ledger import Entry

logger = logging.getLogger("llm_tiered")

# What this process has already warned about.
_warned: set[str] = set()


@dataclass
class _Attempt:
    """An attempt in the ledger, the response that the model fills, and the config's price."""

    entry: Entry
    response: _BaseResponse
    price: ConfigPrice | None = None
    is_open: bool = True

    @property
    def ms(self) -> int:
        """The milliseconds since it was sent."""
        return round((datetime.now(timezone.utc) - self.entry.at).total_seconds() * 1000)


class Billing:
    """The attempts of the request whose response has this id, in the ledger."""

    def __init__(self, response_id: str, limits: Budget) -> None:
        self._response_id = response_id
        self._limits = limits
        self._attempts: list[_Attempt] = []
        self._is_closed = False

    @property
    def has_attempts(self) -> bool:
        """Whether anything was written down."""
        return bool(self._attempts)

    def hold(
        self, inner: _BaseModel, response: _BaseResponse, price: ConfigPrice | None = None
    ) -> None:
        """Write down an attempt that is about to be sent. Raises TieredError if there is a budget.

        That is OverBudget if others have spent the rest since it was checked. `price` is what the
        config says that the model costs, if it does.
        """
        from ..costs.ledger import Entry, Ledger
        from ..costs.spending import period_starts
        from . import budget

        prompt = response.prompt
        cost = budget.expected_cost(inner.model_id, prompt, prompt.options, price)
        now = datetime.now(timezone.utc)
        number = len(self._attempts) + 1
        entry = Entry(self._response_id, number, now, inner.model_id, cost, held=True)
        try:
            with Ledger(ledger_path()) as ledger, ledger.writing():
                if budget.is_set(self._limits):
                    budget.check_limits(self._limits, ledger.spent(*period_starts()), cost)
                ledger.put([entry])
                ledger.forget_old(now)
        except TieredError as error:
            if budget.is_set(self._limits):
                raise
            _warn(f"what this costs can't be counted: {error}")
        attempt = _Attempt(entry, response, price)
        self._attempts.append(attempt)
        if self._is_closed:
            # The request was cancelled while another thread ran this: it will not be sent.
            self._settle(attempt, unfinished=False)

    def settle(self, error: BaseException | None) -> None:
        """Write down what the latest attempt cost, which gave no answer, because of the error."""
        if self._attempts and self._attempts[-1].is_open:
            self._settle(self._attempts[-1], unfinished=_may_be_charged(error))

    def answered(self, response: _BaseResponse) -> None:
        """Write down what the answer cost, which llm may log."""
        for attempt in self._attempts:
            if attempt.response is response:
                self._settle(attempt, unfinished=True, answer=True)

    def close(self) -> None:
        """Settle what is still open, because the answer broke off or was given up."""
        self._is_closed = True
        for attempt in self._attempts:
            if attempt.is_open:
                self._settle(attempt, unfinished=True)

    def _settle(self, attempt: _Attempt, *, unfinished: bool, answer: bool = False) -> None:
        from ..costs.ledger import Ledger

        attempt.is_open = False
        try:
            entry = _settled(attempt, unfinished=unfinished)
            with Ledger(ledger_path()) as ledger, ledger.writing():
                if entry is None:
                    ledger.remove(attempt.entry.response_id, attempt.entry.attempt)
                else:
                    ledger.put([entry._replace(answer=answer)])
        except Exception as error:
            # An answer does not fail for this, whatever the model reports; what is held stays.
            _warn(f"what this cost can't be counted: {error}")


def _settled(attempt: _Attempt, *, unfinished: bool) -> Entry | None:
    """Return the entry with what the attempt cost, or None if it cost nothing.

    Without any output, that depends on whether the service was `unfinished`.
    """
    from ..costs.charges import LoggedUsage, charge_for_usage
    from ..costs.prices import version_of
    from .inner import usage_details

    response, held = attempt.response, attempt.entry
    if response.input_tokens is None and response.output_tokens is None:
        if not response._stream_events and not unfinished:
            return None
        return held._replace(amount=_estimate(attempt), held=False)
    details = usage_details(response)
    charge = charge_for_usage(
        LoggedUsage(
            model=held.model,
            version=version_of(response.response_json),
            datetime_utc=held.at.date(),
            input_tokens=response.input_tokens or 0,
            output_tokens=response.output_tokens or 0,
            token_details=json.dumps(details) if details else None,
            price=attempt.price,
            ms=attempt.ms,
        )
    )
    if charge is None:
        return held._replace(amount=None, complete=False, held=False)
    if charge.unpriced:
        what = ", ".join(charge.unpriced)
        _warn(f"{held.model} is not counted in full: no price is known for {what}")
    complete = not charge.unpriced
    return held._replace(amount=charge.dollars, complete=complete, held=False)


def _estimate(attempt: _Attempt) -> Decimal | None:
    """Return what was expected, or more if more came before the answer broke off."""
    from . import budget

    response, expected = attempt.response, attempt.entry.amount
    characters = sum(len(event.chunk or "") for event in response._stream_events)
    price = attempt.price
    if price and price.hour is not None:
        return price.cost(None, None, attempt.ms)
    cost = budget.cost_of_output(attempt.entry.model, response.prompt, characters, price)
    return expected if cost is None or expected is None else max(cost, expected)


def _may_be_charged(error: BaseException | None) -> bool:
    """Whether an attempt that failed without any output is charged for: the service was at it.

    It does not charge for requests that it refuses, or never got.
    """
    while error is not None:
        if {kind.__name__ for kind in type(error).__mro__} & {"ReadTimeout", "APITimeoutError"}:
            return True
        error = error.__cause__
    return False


def _warn(message: str) -> None:
    """Warn once in each process."""
    if message not in _warned:
        _warned.add(message)
        logger.warning("%s", message)
