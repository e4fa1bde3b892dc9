"""A conversation's messages → whether the model is stuck in a loop of tool calls. Pure."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from llm.parts import ToolCallPart, ToolResultPart

if TYPE_CHECKING:
    from collections.abc import Sequence

    import llm

LATEST, FAILURES = 6, 3
"""Of so many latest results, so many failures show that the model does not get on."""

REPEATS = 3
"""A call is made again and again if its result is the same twice in a row, or so often in all."""

# How the output of a tool begins, or what it says, if the call failed. Failing tests are not among
# them: a tool that ran them did what it had to.
_FAILURE = (
    r"(?i)\A\W*(?:\w+[ :])?(?:\w*error|exception|traceback|fatal|failed to|failure|denied)\b(?!\")"
    r"|\A\W*(?:cannot|can't|could not|unable to|unknown|invalid|no such)\b"
    r"|\"(?:is_?)?error\"\s*:\s*(?!\s|null|false|\"\"|\[\]|\{\}|0\b)"
    r"|\b(?:command not found|no such file or directory|permission denied)\b"
    r"|\bTraceback \(most recent call last\)"
)
# What waits for something is called again, and rightly so.
_WAITING = (
    r"(?i)\b(?:pending|running|queued|waiting|processing|in[ _]progress|starting|"
    r"not (?:yet )?(?:ready|finished|done|complete))\b"
)
# Long enough for any message; what follows is the content of a file, or of a page.
_BEGINNING = 400


class _Step(NamedTuple):
    """A call of a tool and its result."""

    tool: str
    arguments: str
    output: str
    failed: bool

    @property
    def waits(self) -> bool:
        """Whether something is still going on, so that the call has to be made again."""
        return len(self.output) < _BEGINNING and bool(_compiled(_WAITING).search(self.output))


class ToolLoop(NamedTuple):
    """What a model did since the user's last message.

    `stuck` is how it is stuck, or None. `answers` is the number of its answers, all with calls.
    `stuck_before` is how it was stuck after an earlier one of them.
    """

    stuck: str | None = None
    answers: int = 0
    stuck_before: str | None = None


def tool_loop(messages: Sequence[llm.Message]) -> ToolLoop:
    """Return what the model did since the user's last message.

    It is stuck if it only makes calls that it has just made, or has made REPEATS times in all, with
    the same arguments and the same result, or if FAILURES of its LATEST calls failed. A call is not
    a repetition if its result says that something is still running.
    """
    begin = max((at for at, each in enumerate(messages) if each.role == "user"), default=-1) + 1
    answers = _answers(messages[begin:])
    if not answers:
        return ToolLoop()
    earlier = (_stuck(answers[:end]) for end in range(1, len(answers)))
    return ToolLoop(_stuck(answers), len(answers), next(filter(None, earlier), None))


def _stuck(answers: Sequence[Sequence[_Step]]) -> str | None:
    *before, last = answers
    if last and all(_is_repeated(step, before) for step in last):
        return f"called {last[-1].tool} again with the same arguments and the same result"
    latest = [step for steps in answers for step in steps][-LATEST:]
    failures = sum(step.failed for step in latest)
    if any(step.failed for step in last) and failures >= FAILURES:
        return f"{failures} of the last {len(latest)} tool calls failed"
    return None


def _is_repeated(step: _Step, before: Sequence[Sequence[_Step]]) -> bool:
    if not before or step.waits:
        return False
    return step in before[-1] or 1 + sum(step in steps for steps in before) >= REPEATS


def _answers(messages: Sequence[llm.Message]) -> list[list[_Step]]:
    """The calls of each answer that have a result."""
    answers: list[list[_Step]] = []
    calls: list[ToolCallPart] = []
    for message in messages:
        if message.role == "assistant":
            calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
            answers.append([])
        for part in message.parts:
            if isinstance(part, ToolResultPart) and answers and not part.server_executed:
                answers[-1].append(_step(part, calls))
    return answers


def _step(result: ToolResultPart, calls: list[ToolCallPart]) -> _Step:
    """The result with its call, which is taken from the list; not all services give them ids."""
    same = [
        call
        for call in calls
        if call.name == result.name and call.tool_call_id in (None, result.tool_call_id)
    ]
    arguments = ""
    if same:
        calls.remove(same[0])
        arguments = json.dumps(same[0].arguments, sort_keys=True, default=str)
    beginning = result.output[:_BEGINNING]
    failed = result.exception is not None or bool(_compiled(_FAILURE).search(beginning))
    return _Step(result.name, arguments, result.output, failed)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
