"""One prompt through the tiers: the requests, and the figures of the answers."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.compare.runs import Column, CompareRequest, compare
from llm_tiered.evaluation.tiers import select_tiers
from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_httpx import HTTPXMock

    from tests.toys import Toys


def columns(names: str | None = "small,medium", **fields: Any) -> list[Column]:
    """The results of a comparison."""
    defaults: dict[str, Any] = {"prompt": "Hello?", "system": None, "schema": None, "options": {}}
    model: Any = llm.get_model("tiered")
    return list(compare(model, select_tiers(names), CompareRequest(**defaults | fields)))


def test_each_tier_answers_alone(toys: Toys) -> None:
    """Each tier gets the same request; a failure has its reason, and no other tier answers."""
    toys.medium.does = [llm.ModelError("out of order")]
    small, medium = columns(system="Be brief", options={"temperature": 0.5})
    assert [answer.text for answer in small.answers] == ["small answer"]
    assert (medium.answers, medium.failures) == ([], ["failed: out of order"])
    for toy in (toys.small, toys.medium):
        [prompt] = toy.prompts
        assert (prompt.prompt, prompt.system) == ("Hello?", "Be brief")
        assert vars(prompt.options)["temperature"] == 0.5


def test_broken_answer(toys: Toys) -> None:
    """An answer that breaks off is a failure, and the other tiers are asked."""
    toys.small.does = ["Half", llm.ModelError("gone")]
    small, medium = columns()
    assert small.failures == ["mlx/toy-small broke off its answer: gone"]
    assert medium.answers


def test_figures(toys: Toys, httpx_mock: HTTPXMock) -> None:
    """Times, tokens and dollars are those of the model; local models cost nothing."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    small, _, cloud = columns(None)
    [ours], [theirs] = small.answers, cloud.answers
    assert (ours.input_tokens, ours.output_tokens, ours.cost) == (5, 2, Decimal(0))
    assert (theirs.model, theirs.text) == (gemini.MODEL, "Hello")
    assert (theirs.input_tokens, theirs.output_tokens) == (7, 5)
    assert theirs.cost
    assert theirs.ttft_ms is not None
    assert 0 <= theirs.ttft_ms <= theirs.ms + 1


def test_several_runs(toys: Toys) -> None:
    """A tier is asked as often as requested, also after a failure."""
    answers: Iterator[Any] = iter(["one", llm.ModelError("out of order"), "three"])

    def act() -> None:
        toys.small.does[1:] = [next(answers)]

    toys.small.does = [act, ""]
    [small] = columns("small", runs=3)
    assert [answer.text for answer in small.answers] == ["one", "three"]
    assert small.failures == ["failed: out of order"]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [('{"age": 3}', None), ("{}", "does not fit the schema at $: 'age' is a required property")],
)
def test_schema(toys: Toys, httpx_mock: HTTPXMock, text: str, mistake: str | None) -> None:
    """With a schema each answer is checked; a model that does not support schemas is skipped."""
    # A mistake is given back once.
    for _ in range(2 if mistake else 1):
        gemini.answer(httpx_mock, *gemini.says(text))
    schema = {"type": "object", "required": ["age"]}
    small, cloud = columns("small,cloud", schema=schema)
    assert small.failures == ["skipped: can't do schemas"]
    assert cloud.schema_mistakes == [mistake]
    assert cloud.as_dict()["valid"] == [mistake is None]
    [answer] = cloud.answers
    assert (answer.text, answer.input_tokens, answer.output_tokens) == (text, 7, 5)
    assert answer.cost


def test_local_only(toys: Toys) -> None:
    """With local_only the cloud is skipped, and no other tier answers in its place."""
    small, cloud = columns("small,cloud", options={"local_only": True})
    assert small.answers
    assert cloud.failures == ["skipped: nothing may leave this machine"]
    assert toys.medium.prompts == []


def test_json(toys: Toys) -> None:
    """As JSON a tier has its answers and, for each figure, the median and the spread."""
    [small] = columns("small", runs=2)
    values = small.as_dict()
    assert (values["tier"], values["model"], values["failures"]) == ("small", "mlx/toy-small", [])
    assert values["answers"] == ["small answer"] * 2
    assert values["figures"]["output_tokens"] == {"median": 2, "low": 2, "high": 2}
    assert values["valid"] is None
