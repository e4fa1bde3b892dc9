"""The complexity of a conversation."""

from __future__ import annotations

import llm
import pytest

from llm_tiered.estimator import estimate
from llm_tiered.estimator.conversation import Turn, deciding_turn

EASY = ["What is 2+2?", "Who wrote Hamlet?", "Is a tomato a fruit?"]
HARD = "Prove that there are infinitely many primes congruent to 3 mod 4."


def _conversation(*texts: str) -> list[llm.Message]:
    answers = [llm.assistant("It is so.") for _ in texts]
    turns = zip([llm.user(text) for text in texts], answers, strict=True)
    return [message for turn in turns for message in turn][:-1]


def _complexity(*texts: str) -> int:
    return estimate(texts[-1], messages=_conversation(*texts)).complexity


def test_up_immediately() -> None:
    """One harder turn makes the conversation harder."""
    assert _complexity(EASY[0], EASY[1], HARD) == estimate(HARD).complexity


def test_down_after_two() -> None:
    """One easier turn changes nothing; after a second one, the harder of the two decides."""
    hard = estimate(HARD).complexity
    assert _complexity(HARD, EASY[0]) == hard
    easy = [estimate(text).complexity for text in EASY[:2]]
    assert _complexity(HARD, EASY[0], EASY[1]) == max(easy) < hard


def test_harder_in_between() -> None:
    """Easier turns count only if they are consecutive."""
    assert _complexity(HARD, EASY[0], HARD, EASY[1]) == estimate(HARD).complexity


def test_reason_of_an_earlier_turn() -> None:
    """If an earlier turn decides, the reasons say so."""
    result = estimate(EASY[0], messages=_conversation(HARD, EASY[0]))
    assert result.reasons[:2] == ("the conversation so far", "asks for a proof")


@pytest.mark.parametrize("before", [EASY[0], HARD])
@pytest.mark.parametrize("thin", ["ok", "go on", "", "你好"])
def test_thin_turn(before: str, thin: str) -> None:
    """Turns with too little to judge by change nothing, however many there are."""
    assert _complexity(before, thin, thin, thin) == estimate(before).complexity


def test_thin_start() -> None:
    """A greeting is medium on its own, and does not affect the turns after it."""
    assert _complexity("hi") == _complexity("hi", "ok") == 5
    assert _complexity("hi", EASY[0]) == estimate(EASY[0]).complexity


def test_prompt_once() -> None:
    """The messages may end with the prompt or before it."""
    messages = _conversation(HARD, EASY[0], EASY[1])
    assert estimate(EASY[1], messages=messages) == estimate(EASY[1], messages=messages[:-1])


def test_prompt_in_messages_only() -> None:
    """After a tool result, without a prompt, the user's last message counts."""
    result = llm.parts.ToolResultPart(name="primes", output="2, 3, 5")
    messages = [llm.user(HARD), llm.assistant("A moment."), llm.tool_message(result)]
    assert estimate("", messages=messages).complexity == estimate(HARD).complexity


def test_long_conversation() -> None:
    """The length of all messages counts, including answers and tool results."""
    short = _conversation(EASY[0], EASY[1])
    long = [short[0], llm.assistant("It is so. " * 5000), short[2]]
    assert estimate(EASY[1], messages=long).score > estimate(EASY[1], messages=short).score


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([1], 1),
        ([1, 2, 3], 3),
        ([9, 1], 9),
        ([9, 1, 2], 2),
        ([9, 2, 1], 2),
        ([9, 1, 9, 1], 9),
        ([9, 5, 1, 1], 5),
        ([9, 5, 1, 1, 1], 1),
        ([5, 5, 5], 5),
    ],
)
def test_rule(levels: list[int], expected: int) -> None:
    """A harder turn decides immediately, two easier ones after the second, the harder of them."""
    turns = [Turn(float(level), 1.0, ()) for level in levels]
    assert deciding_turn(turns).log_odds == expected
