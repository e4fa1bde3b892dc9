"""The budget for cloud models, checked before each request."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llm.parts import AttachmentPart

from ..costs import prices, spending
from ..errors import OverBudget
from ..paths import log_path
from ..wording import dollars
from .inner import max_tokens, price_context
from .thinking import room

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import llm
    from llm.models import _BaseModel

    from ..config.price import ConfigPrice
    from ..config.sections import Budget
    from ..costs.ledger import Spent

logger = logging.getLogger("llm_tiered")

# The share of a limit at which there is a warning.
WARNING = Decimal("0.8")

# Google's rule of thumb for English (https://ai.google.dev/gemini-api/docs/tokens). Scripts with
# fewer characters per token have more bytes per character.
BYTES_PER_TOKEN = 4

# An image counts as four tiles with 258 tokens each (same page).
IMAGE_TOKENS = 1_032

# A second of sound has 32 tokens, of a video 263, and a page of a document 258 (same page). Few
# files have less than this for each.
MEDIA_BYTES_PER_TOKEN = 200

# The expected length of an answer without max_tokens, in tokens.
ANSWER_TOKENS = 1_000

# The limits already warned about, with the start of their period: one warning is enough.
_warned: set[tuple[str, str]] = set()


class Limit(NamedTuple):
    """A limit of the budget, and how much of it has been spent, in dollars."""

    name: str
    limit: Decimal
    spent: Decimal

    @property
    def left(self) -> Decimal:
        """What may still be spent; never negative."""
        return max(self.limit - self.spent, Decimal(0))


def is_set(budget: Budget) -> bool:
    """Whether there is any limit."""
    return budget.day is not None or budget.month is not None


def used(budget: Budget) -> list[Limit]:
    """Each limit and how much of it all processes have spent. Raises TieredError."""
    day, month = spending.period_starts()
    return _limits(budget, spending.read_spent(log_path(), day=day, month=month))


def _limits(budget: Budget, spent: Spent) -> list[Limit]:
    sums = {"day": spent.day, "month": spent.month}
    return [
        Limit(name, limit, sums[name])
        for name, limit in (("day", budget.day), ("month", budget.month))
        if limit is not None
    ]


def check(
    budget: Budget,
    inner: _BaseModel,
    prompt: llm.Prompt,
    options: llm.Options,
    price: ConfigPrice | None = None,
) -> None:
    """Raise OverBudget, with the numbers, if this request might cost more than is left.

    `price` is what the config says that the model costs, if it does.
    """
    if not is_set(budget):
        return
    cost = expected_cost(inner.model_id, prompt, options, price)
    if cost is None:
        if budget.unpriced == "allow":
            return
        raise OverBudget(
            f"the price of {inner.model_id} is unknown, but there is a budget",
            fix="unpriced: allow under budget in the config",
        )
    day, month = spending.period_starts()
    check_limits(budget, spending.read_spent(log_path(), day=day, month=month), cost)


def check_limits(budget: Budget, spent: Spent, cost: Decimal | None) -> None:
    """Raise OverBudget if so much more than was spent would exceed a limit; None is unknown."""
    for limit in _limits(budget, spent):
        if cost is not None and limit.spent + cost > limit.limit:
            raise OverBudget(
                f"over budget: {dollars(limit.spent)} of {dollars(limit.limit)} spent this "
                f"{limit.name}, and this may cost {dollars(cost)}",
                fix="raise budget in the config",
            )
        if cost is not None and limit.spent + cost >= WARNING * limit.limit:
            _warn(limit)


def expected_cost(
    model_id: str, prompt: llm.Prompt, options: llm.Options, price: ConfigPrice | None = None
) -> Decimal | None:
    """The expected cost of a request in dollars, or None if the model's price is unknown.

    How long an answer takes is not known beforehand: at an hourly price, nothing is expected.
    """
    output = _expected_output(options)
    if price:
        return price.cost(sum(_tokens(prompt)), output, 0)
    return _cost(model_id, prompt, options, output)


def _expected_output(options: llm.Options) -> int:
    """The expected output of a request in tokens, thoughts included.

    It is the limit for the answer, but no less than the usual output if the model may think
    besides: few thoughts take all the room that they get, and a budget must not wait for that.
    """
    limit = max_tokens(options)
    if limit is None:
        return ANSWER_TOKENS
    answer = limit - room(options)
    return min(limit, max(answer, ANSWER_TOKENS)) if answer > 0 else limit


def cost_of_output(
    model_id: str, prompt: llm.Prompt, characters: int, price: ConfigPrice | None = None
) -> Decimal | None:
    """The cost of an answer of this length in dollars, or None if the model's price is unknown.

    It is rounded up: other scripts than English have fewer characters per token.
    """
    if price:
        return price.cost(sum(_tokens(prompt)), characters // 2, 0)
    return _cost(model_id, prompt, prompt.options, characters // 2)


def _cost(model_id: str, prompt: llm.Prompt, options: Any, output_tokens: int) -> Decimal | None:
    context = price_context(options)
    details = json.dumps(context) if context else None
    return prices.highest_cost(model_id, sum(_tokens(prompt)), output_tokens, details)


def _tokens(prompt: llm.Prompt) -> Iterator[int]:
    yield tokens_of_messages(prompt.messages)
    for tool in prompt.tools:
        fields = (getattr(tool, name, "") for name in ("name", "description", "input_schema"))
        yield _tokens_of_text(" ".join(map(str, fields)))
    yield _tokens_of_text(str(prompt.schema or ""))


def tokens_of_messages(messages: Iterable[llm.Message]) -> int:
    """The expected tokens of messages with their attachments."""
    return sum(
        _tokens_of_attachment(part.attachment)
        if isinstance(part, AttachmentPart) and part.attachment
        else _tokens_of_text(str(part.to_dict()))
        for message in messages
        for part in message.parts
    )


def _tokens_of_text(text: str) -> int:
    return len(text.encode(errors="replace")) // BYTES_PER_TOKEN


def _tokens_of_attachment(attachment: llm.Attachment) -> int:
    """The number of tokens, by the size of the file; nothing is fetched from a URL for that."""
    kind = attachment.type or ""
    if kind.startswith("image/"):
        return IMAGE_TOKENS
    size = len(attachment.content or b"")
    if attachment.path:
        with suppress(OSError):
            size = Path(attachment.path).stat().st_size
    tokens = size // (BYTES_PER_TOKEN if kind.startswith("text/") else MEDIA_BYTES_PER_TOKEN)
    return max(tokens, IMAGE_TOKENS)


def _warn(limit: Limit) -> None:
    day, month = spending.period_starts()
    since = (day if limit.name == "day" else month).isoformat()
    if (limit.name, since) not in _warned:
        _warned.add((limit.name, since))
        logger.warning(
            "%s of the budget of %s for %s is spent",
            dollars(limit.spent),
            dollars(limit.limit),
            "today" if limit.name == "day" else "this month",
        )
