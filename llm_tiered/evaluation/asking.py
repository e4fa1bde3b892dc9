"""Questions → answers, each kept in a journal as soon as it is there."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from bisect import insort
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..batch.limits import is_local
from ..config.settings import load_settings
from ..errors import BrokenAnswer, RequestError, TieredError
from ..log import writer as api
from ..router.model import AsyncTieredModel
from . import tiers
from .tiers import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import llm

    from ..batch.journal import Journal
    from ..batch.limits import AsyncModel
    from ..batch.rows import Row
    from ..config.sections import Tier


@dataclass(frozen=True)
class Question:
    """A row and the model that it goes to, in the name of a tier or as a judge.

    `read` raises TieredError where the answer is of no use and has to be asked for again.
    """

    row: Row
    model: AsyncModel
    tier: Tier | None = None
    read: Callable[[str], Any] | None = None

    @property
    def local(self) -> bool:
        """Whether it is answered on this machine."""
        return self.tier.local if self.tier else is_local(self.model)

    @property
    def who(self) -> str:
        """Who is asked, for people."""
        return self.tier.name if self.tier else f"judge {self.model.model_id}"


@dataclass
class Failures:
    """Why there are questions without an answer: the lines for each model and reason."""

    lines: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    _shown: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, who: str, reason: str, line: int) -> None:
        """Keep one. What differs in its numbers only, such as seconds left, is the same reason."""
        kind = who, re.sub(r"\d+", "0", reason)
        shown = self._shown.setdefault(kind, reason)
        insort(self.lines.setdefault((who, shown), []), line)


class _Unwritable(TieredError):
    """An answer can't be kept."""


class Asking:
    """Asks the questions of one evaluation. `concurrency` is that of the cloud.

    Local ones come one after the other, so that each has the machine to itself while it is timed.
    """

    def __init__(self, journal: Journal, concurrency: int) -> None:
        self.failures = Failures()
        self._journal = journal
        self._concurrency = concurrency

    async def ask(self, questions: Sequence[Question], what: str) -> dict[str, Answer]:
        """The answers by the keys of the rows, those of earlier runs among them.

        What can't be answered is in `failures`. Raises TieredError if answers can't be kept.
        """
        from tqdm import tqdm

        answers = {}
        to_ask = []
        for question in questions:
            kept = self._journal.find(question.row)
            if kept is None:
                to_ask.append(question)
            else:
                answers[question.row.key] = _load(kept)
        room = {True: asyncio.Semaphore(1), False: asyncio.Semaphore(self._concurrency)}
        # On a terminal only, and only where there is something to wait for.
        disable = None if to_ask else True
        with tqdm(
            total=len(to_ask), desc=what, file=sys.stderr, disable=disable, dynamic_ncols=True
        ) as bar:

            async def one(question: Question) -> None:
                async with room[question.local]:
                    answer = await self._one(question)
                if answer:
                    answers[question.row.key] = answer
                bar.update()

            await asyncio.gather(*(one(question) for question in to_ask))
        return answers

    async def _one(self, question: Question) -> Answer | None:
        try:
            return await self._ask(question)
        except _Unwritable:
            raise
        except Exception as error:
            self.failures.add(question.who, tiers.reason(error), question.row.line)
            return None

    async def _ask(self, question: Question) -> Answer:
        row, model = question.row, question.model
        answers: list[Answer] = []
        response = model.prompt(
            row.prompt, system=row.system, schema=row.schema, options=row.options
        )
        if question.tier:
            tiers.check(response.prompt, question.tier)

        async def keep(_: llm.AsyncResponse) -> None:
            text, ms = response.text_or_raise(), await response.duration_ms()
            answers.append(tiers.describe(response, text, ms))
            self._keep(question, answers[0])

        # It comes before the log: an answer that is paid for is not lost while that is locked.
        await response.on_done(keep)
        broken = await _read(response, question.tier)
        if broken:
            self._keep(question, broken)
            return broken
        if not isinstance(model, AsyncTieredModel) and api.must_log(
            log_api=load_settings().config.log_api
        ):
            await asyncio.to_thread(api.write, response)
        if question.read:
            question.read(answers[0].text)
        return answers[0]

    def _keep(self, question: Question, answer: Answer) -> None:
        try:
            if question.read:
                question.read(answer.text)
        except TieredError:
            return
        try:
            self._journal.add(question.row, _dump(answer))
        except OSError as error:
            raise _Unwritable(f"the answers can't be kept: {error.strerror}") from error


async def _read(response: llm.AsyncResponse, tier: Tier | None) -> Answer | None:
    """Wait for the whole answer. Gives what there is of one that its model broke off by itself.

    JSON that ends at the model's limit would end there the next time, too: it is what this tier
    answers. Anything else that breaks off is raised.
    """
    pieces: list[str] = []
    started = time.perf_counter()
    try:
        async for piece in response:
            pieces.append(piece)
    except BrokenAnswer as error:
        if tier is None or not isinstance(error.__cause__, RequestError):
            raise
        ms = round((time.perf_counter() - started) * 1000)
        return tiers.describe_broken(tier, "".join(pieces), ms)
    return None


def _dump(answer: Answer) -> dict[str, Any]:
    cost = None if answer.cost is None else str(answer.cost)
    return asdict(answer) | {"cost": cost}


def _load(kept: dict[str, Any]) -> Answer:
    found = {name: kept[name] for name in Answer.__dataclass_fields__}
    cost = found["cost"]
    return Answer(**found | {"cost": None if cost is None else Decimal(cost)})
