"""What the text of an answer, and its log-probabilities, reveal."""

from __future__ import annotations

from typing import Any

import pytest

from llm_tiered.router.quality import DECILE_LOGPROB, MEAN_LOGPROB, judge, repetition

SURE = {"finish_reason": "stop", "mean_logprob": -0.2, "decile_logprob": -1.5}
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}

GOOD = [
    "Paris.",
    "42",
    "Sorry, that was a joke: the answer is 7.",
    "The word 'cannot' is one word. I can't stress this enough.",
    "- one\n- two\n- three\n- four\n" * 3,
    "She said: I'm sorry, I was late. " + "Then they went on, each in their own way. ",
    "for i in range(10):\n    print(i)\n",
]


@pytest.mark.parametrize("text", GOOD)
def test_good_answers(text: str) -> None:
    """A good answer raises no objection."""
    assert judge(text, SURE, None) is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but I can\u2019t help with that.",
        "I am really sorry, I am unable to do this.",
        "As an AI language model, I have no feelings.",
        "I cannot assist with this request.",
        "I don't have enough information to answer.",
        "I do not know.",
    ],
)
def test_refusals(text: str) -> None:
    """A refusal is recognised by how it begins."""
    verdict = judge(text, SURE, None)
    assert verdict is not None
    assert verdict.reason == "the answer is a refusal"
    assert verdict.correction is None


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty(text: str) -> None:
    """An empty answer is weak."""
    verdict = judge(text, SURE, None)
    assert verdict is not None
    assert verdict.reason == "the answer is empty"


def test_cut_off() -> None:
    """An answer that ended at the limit is weak."""
    verdict = judge("Once upon", SURE | {"finish_reason": "length"}, None)
    assert verdict is not None
    assert verdict.reason == "the answer is cut off at max_tokens"


def test_repetition() -> None:
    """A looping answer is weak, and the reason says how much of it is repeated."""
    circles = "The cat sat on the mat and the dog ran away. " * 8
    verdict = judge(circles, SURE, None)
    assert verdict is not None
    assert verdict.reason.startswith("the answer repeats itself (8")
    assert repetition(circles) == pytest.approx(0.87, abs=0.02)
    assert repetition("one two three four " * 4) == 0
    assert repetition(" ".join(str(number) for number in range(100))) == 0


@pytest.mark.parametrize(
    ("name", "bar", "words"),
    [("mean_logprob", MEAN_LOGPROB, "mean"), ("decile_logprob", DECILE_LOGPROB, "lowest tenth")],
)
def test_unsure(name: str, bar: float, words: str) -> None:
    """An answer that the model was guessing is weak."""
    assert judge("Perhaps.", SURE | {name: bar}, None) is None
    verdict = judge("Perhaps.", SURE | {name: bar - 0.1}, None)
    assert verdict is not None
    assert "the model is unsure" in verdict.reason
    assert words in verdict.reason


@pytest.mark.parametrize("facts", [{}, {"mean_logprob": None}, {"finish_reason": None}])
def test_what_is_not_known_is_not_judged(facts: dict[str, Any]) -> None:
    """Without facts from the model, only the text counts."""
    assert judge("Paris.", facts, None) is None


@pytest.mark.parametrize(
    ("text", "words"), [("no", "is not JSON"), ("[]", "'object'"), ('{"age": "x"}', "$.age")]
)
def test_schema(text: str, words: str) -> None:
    """JSON that does not fit the schema is weak, and the model can be told why."""
    verdict = judge(text, SURE, SCHEMA)
    assert verdict is not None
    assert words in verdict.reason
    assert verdict.correction is not None
    assert words in verdict.correction


def test_answer_that_fits_the_schema() -> None:
    """JSON that fits is judged by the log-probabilities, not by its words."""
    assert judge('{"age": 7}', SURE, SCHEMA) is None
    assert judge('{"age": 7}', SURE | {"mean_logprob": -9.0}, SCHEMA) is not None
