"""Questions → answers, each added to a journal as soon as it is complete."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..batch.asking import needs_logging, start
from ..batch.limits import is_local
from ..endpoints.pool import concurrency_of
from ..errors import AllTiersFailed, BrokenAnswer, RequestError, TieredError
from ..log import writer
from .tiers import TierAnswer, broken_answer, check_route, reason, tier_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import llm

    from ..batch.journal import Journal
    from ..batch.limits import AsyncModel
    from ..batch.rows import Row
    from ..config.tiers import Tier


@dataclass(frozen=True)
class Question:
    """A row for a tier or, without one, for a judge.

    `read` raises TieredError if the answer is unusable and the question must be asked again.
    """

    row: Row
    model: AsyncModel
    tier: Tier | None = None
    read: Callable[[str], Any] | None = None

    @property
    def local(self) -> bool:
        """Whether it is answered on this machine."""
        return self.tier.place == "here" if self.tier else is_local(self.model)

    @property
    def addressee(self) -> str:
        """The tier or the judge, for messages."""
        return self.tier.name if self.tier else f"judge {self.model.model_id}"


@dataclass
class Failures:
    """The lines without an answer, in order, by tier or judge and reason."""

    lines: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    _first_reasons: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, addressee: str, why: str, line: int) -> None:
        """Add a line. Reasons that differ only in numbers (such as seconds left) count as one."""
        kind = addressee, re.sub(r"\d+", "0", why)
        first = self._first_reasons.setdefault(kind, why)
        insort(self.lines.setdefault((addressee, first), []), line)


class _JournalError(TieredError):
    """An answer can't be added to the journal."""


def _room(rooms: dict[object, asyncio.Semaphore], question: Question) -> asyncio.Semaphore:
    """Where a question waits for its turn: before it is timed, and not at a server."""
    tier = question.tier
    if tier and tier.server and not question.local:
        return rooms.setdefault(tier.name, asyncio.Semaphore(concurrency_of(tier)))
    return rooms[question.local]


class QuestionAsker:
    """Asks the questions of one evaluation, up to `concurrency` at the same time in the cloud.

    Local models answer one question at a time, so that each has the machine to itself while it
    is timed.
    """

    def __init__(self, journal: Journal, concurrency: int) -> None:
        self.failures = Failures()
        self._journal = journal
        self._concurrency = concurrency

    async def ask(self, questions: Sequence[Question], label: str) -> dict[str, TierAnswer]:
        """Return the answers by the keys of their rows, including those of earlier runs.

        Questions that fail are added to `failures`. `label` names the progress bar. Raises
        TieredError if answers can't be added to the journal.
        """
        from tqdm import tqdm

        answers = {}
        unanswered = []
        for question in questions:
            entry = self._journal.find(question.row)
            if entry is None:
                unanswered.append(question)
            else:
                answers[question.row.key] = TierAnswer.from_json(entry)
        rooms: dict[object, asyncio.Semaphore] = {
            True: asyncio.Semaphore(1),
            False: asyncio.Semaphore(self._concurrency),
        }
        # None shows the bar on a terminal only.
        disable = None if unanswered else True
        with tqdm(
            total=len(unanswered), desc=label, file=sys.stderr, disable=disable, dynamic_ncols=True
        ) as bar:

            async def ask_in_turn(question: Question) -> None:
                async with _room(rooms, question):
                    answer = await self._ask_or_fail(question)
                if answer:
                    answers[question.row.key] = answer
                bar.update()

            await asyncio.gather(*(ask_in_turn(question) for question in unanswered))
        return answers

    async def _ask_or_fail(self, question: Question) -> TierAnswer | None:
        try:
            return await self._ask(question)
        except _JournalError:
            raise
        except Exception as error:
            why = reason(error, question.model)
            self.failures.add(question.addressee, why, question.row.line)
            return None

    async def _ask(self, question: Question) -> TierAnswer:
        answers: list[TierAnswer] = []
        response = start(question.model, question.row)
        if question.tier:
            check_route(response, question.tier)

        async def keep(_: llm.AsyncResponse) -> None:
            text, ms = response.text_or_raise(), await response.duration_ms()
            answers.append(tier_answer(response, text, ms))
            self._keep(question, answers[0])

        # Before the log: a paid answer must not be lost while another process locks it.
        await response.on_done(keep)
        broken = await _await(response, question.tier)
        if broken:
            self._keep(question, broken)
            return broken
        if needs_logging(question.model):
            await writer.write_async(response)
        if question.read:
            question.read(answers[0].text)
        return answers[0]

    def _keep(self, question: Question, answer: TierAnswer) -> None:
        """Add a usable answer to the journal."""
        try:
            if question.read:
                question.read(answer.text)
        except TieredError:
            return
        try:
            self._journal.add(question.row, answer.to_json())
        except OSError as error:
            raise _JournalError(f"the answers can't be kept: {error.strerror}") from error


async def _await(response: llm.AsyncResponse, tier: Tier | None) -> TierAnswer | None:
    """Wait for the whole response; return an answer only if the tier's is not what was asked for.

    JSON that ends at the model's token limit or does not fit the schema, or thoughts up to the
    limit, would do so the next time too: it counts as the tier's answer. Other errors are raised.
    """
    pieces: list[str] = []
    started = time.perf_counter()
    try:
        async for piece in response:
            pieces.append(piece)
    except AllTiersFailed as error:
        if tier is None or error.rejected is None:
            raise
        ms = round((time.perf_counter() - started) * 1000)
        return tier_answer(response, error.rejected, ms)
    except BrokenAnswer as error:
        if tier is None or not isinstance(error.__cause__, RequestError):
            raise
        ms = round((time.perf_counter() - started) * 1000)
        return broken_answer(tier, "".join(pieces), ms)
    return None
