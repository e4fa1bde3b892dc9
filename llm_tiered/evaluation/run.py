"""A suite through the tiers: answers, then grades, then scores."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import llm

from ..batch.ctrl_c import on_ctrl_c
from ..config.settings import load_settings
from ..config.terms import WHOSE, WITHIN
from ..errors import RequestError
from ..router.options import TieredOptions
from ..router.request import must_stay
from ..router.threads import get_async_model
from . import judge
from .asking import Question
from .report import Score
from .scoring import mistake
from .suite import digest, for_tier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from ..batch.limits import AsyncModel
    from ..config.terms import Kept
    from ..config.tiers import Tier
    from .asking import Failures, QuestionAsker
    from .suite import Case
    from .tiers import TierAnswer


@dataclass(frozen=True)
class Outcome:
    """The scores by tier and by the key of the case, the failures, and the price of each grade."""

    scores: dict[str, dict[str, Score]]
    failures: Failures
    judging: list[Decimal | None]


def run(
    cases: Sequence[Case],
    tiers: Sequence[Tier],
    judges: Mapping[str, AsyncModel],
    asker: QuestionAsker,
) -> Outcome:
    """Ask everything that is not in the journal yet, and return all scores.

    `judges` is the result of `find_judges`. Raises TieredError if answers can't be kept, and
    KeyboardInterrupt after Ctrl-C, when all requests have ended.
    """

    async def until_ctrl_c() -> Outcome:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a running coroutine has one
        with on_ctrl_c(task.cancel):
            return await _run(cases, tiers, judges, asker)

    try:
        return asyncio.run(until_ctrl_c())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def find_judges(cases: Sequence[Case]) -> dict[str, AsyncModel]:
    """Return the judges by the names that the rows use.

    Raises RequestError if llm does not know a judge, or if it is in the cloud and a row must stay
    on this machine.
    """
    tiered: Any = llm.get_model("tiered")
    judges: dict[str, AsyncModel] = {}
    for case in cases:
        name = case.expected.judge_model
        if not case.expected.judge or not name:
            continue
        try:
            model: AsyncModel = judges.get(name) or get_async_model(name)
        except llm.UnknownModelError as error:
            raise RequestError(error.args[0], fix="llm models") from None
        kept = _kept(case, tiered)
        if kept and load_settings().place_of(model.model_id) not in WITHIN[kept]:
            raise RequestError(
                f"line {case.row.line}: nothing may leave {WHOSE[kept]}, and the judge {name} "
                "is not there",
                fix="--judge with a local model",
            )
        judges[name] = model
    return judges


def _kept(case: Case, model: Any) -> Kept | None:
    """Where the prompt of a row must stay, if anywhere: then so must the answers to it."""
    row = case.row
    options = TieredOptions(**row.options)
    schema: Any = row.schema
    prompt = llm.Prompt(row.prompt, model, system=row.system, schema=schema, options=options)
    return must_stay(prompt)


async def _run(
    cases: Sequence[Case],
    tiers: Sequence[Tier],
    judges: Mapping[str, AsyncModel],
    asker: QuestionAsker,
) -> Outcome:
    model: Any = llm.get_async_model("tiered")
    questions = [
        (case, tier, Question(for_tier(case, tier), model, tier))
        for tier in tiers
        for case in cases
    ]
    answers = await asker.ask([question for *_, question in questions], "answers")
    scores: dict[str, dict[str, Score]] = {tier.name: {} for tier in tiers}
    to_judge = []
    for case, tier, question in questions:
        answer = answers.get(question.row.key)
        if not answer:
            continue
        why = mistake(answer.text, case.expected)
        if why or not case.expected.judge:
            scores[tier.name][case.row.key] = Score(0.0 if why else 1.0, why, answer)
        else:
            for_judge = _for_judge(case, answer, judges[case.expected.judge_model or ""])
            to_judge.append((case, tier, answer, for_judge))
    # Equal answers of several tiers share one grade.
    unique = {for_judge.row.key: for_judge for *_, for_judge in to_judge}
    replies = await asker.ask([*unique.values()], "grades")
    for case, tier, answer, for_judge in to_judge:
        reply = replies.get(for_judge.row.key)
        if reply:
            grade = judge.parse_grade(reply.text)
            scores[tier.name][case.row.key] = Score(grade.score, grade.why, answer)
    return Outcome(scores, asker.failures, [reply.cost for reply in replies.values()])


def _for_judge(case: Case, answer: TierAnswer, model: AsyncModel) -> Question:
    """Return the question that asks a judge to grade an answer."""
    from llm.cli import get_model_options

    options = get_model_options(model.model_id)
    prompt = judge.judge_prompt(case, answer.text)
    schema = judge.SCHEMA if model.supports_schema else None
    row = replace(
        case.row,
        prompt=prompt,
        system=judge.SYSTEM,
        schema=schema,
        options=options,
        key=digest(["judge", model.model_id, options, prompt, judge.SYSTEM, schema]),
    )
    return Question(row, model, read=judge.parse_grade)
