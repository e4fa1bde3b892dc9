"""A suite through the tiers: answers, then grades, then scores."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import llm

from ..batch.ctrl_c import on_ctrl_c
from ..batch.limits import is_local
from ..config.settings import load_settings
from ..errors import RequestError
from ..router.options import TieredOptions
from . import judge, scoring
from .asking import Question
from .report import Score
from .suite import digest, for_tier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from ..batch.limits import AsyncModel
    from ..config.sections import Tier
    from .asking import Asking, Failures
    from .suite import Case
    from .tiers import Answer


@dataclass(frozen=True)
class Outcome:
    """The scores, by tier and by the case's key; what failed; what each judge's reply cost."""

    scores: dict[str, dict[str, Score]]
    failures: Failures
    judging: list[Decimal | None]


def run(
    cases: Sequence[Case], tiers: Sequence[Tier], judges: Mapping[str, AsyncModel], asking: Asking
) -> Outcome:
    """Ask what is not in the journal yet, and score it all.

    `judges` are those of `find_judges`. Raises TieredError where answers can't be kept, and
    KeyboardInterrupt once what was under way is ended.
    """

    async def until_ctrl_c() -> Outcome:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has one
        with on_ctrl_c(task.cancel):
            return await _run(cases, tiers, judges, asking)

    try:
        return asyncio.run(until_ctrl_c())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def find_judges(cases: Sequence[Case]) -> dict[str, AsyncModel]:
    """The judges by the names that rows have for them.

    Raises RequestError for one that llm does not know, and for one in the cloud where a row has to
    stay on this machine.
    """
    stay = load_settings().local_only
    found: dict[str, AsyncModel] = {}
    for case in cases:
        name = case.expected.judge_model
        if not case.expected.judge or not name:
            continue
        try:
            model: AsyncModel = found.get(name) or llm.get_async_model(name)
        except llm.UnknownModelError as error:
            raise RequestError(error.args[0], fix="llm models --async") from None
        if not is_local(model) and (stay or TieredOptions(**case.row.options).local_only):
            raise RequestError(
                f"line {case.row.line}: nothing may leave this machine, and the judge {name} "
                "is not local",
                fix="--judge with a local model",
            )
        found[name] = model
    return found


async def _run(
    cases: Sequence[Case], tiers: Sequence[Tier], judges: Mapping[str, AsyncModel], asking: Asking
) -> Outcome:
    model: Any = llm.get_async_model("tiered")
    asked = [
        (case, tier, Question(for_tier(case, tier), model, tier))
        for tier in tiers
        for case in cases
    ]
    found = await asking.ask([question for _, _, question in asked], "answers")
    answered = [
        (case, tier, found[question.row.key])
        for case, tier, question in asked
        if question.row.key in found
    ]
    scores: dict[str, dict[str, Score]] = {tier.name: {} for tier in tiers}
    to_judge = []
    for case, tier, answer in answered:
        why = scoring.mistake(answer.text, case.expected)
        if why or not case.expected.judge:
            scores[tier.name][case.row.key] = Score(0.0 if why else 1.0, why, answer)
        else:
            judging = _for_judge(case, answer, judges[case.expected.judge_model or ""])
            to_judge.append((case, tier, answer, judging))
    # Tiers that answer with the same words share a grade.
    questions = {judging.row.key: judging for *_, judging in to_judge}
    replies = await asking.ask([*questions.values()], "grades")
    for case, tier, answer, judging in to_judge:
        reply = replies.get(judging.row.key)
        if reply:
            grade = judge.read(reply.text)
            scores[tier.name][case.row.key] = Score(grade.score, grade.why, answer)
    return Outcome(scores, asking.failures, [reply.cost for reply in replies.values()])


def _for_judge(case: Case, answer: Answer, model: AsyncModel) -> Question:
    from llm.cli import get_model_options

    options = get_model_options(model.model_id)
    prompt = judge.question(case, answer.text)
    schema = judge.SCHEMA if model.supports_schema else None
    row = replace(
        case.row,
        prompt=prompt,
        system=judge.SYSTEM,
        schema=schema,
        options=options,
        key=digest(["judge", model.model_id, options, prompt, judge.SYSTEM, schema]),
    )
    return Question(row, model, read=judge.read)
