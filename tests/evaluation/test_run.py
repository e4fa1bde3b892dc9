"""A suite through the tiers: who is asked what, what is kept, what fails."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml

from llm_tiered.batch.journal import Journal
from llm_tiered.errors import RequestError, TieredError
from llm_tiered.evaluation.asking import Failures
from tests.batch.echo import CLOUD, MEDIUM, OTHER, SMALL, Echoes, config
from tests.cli.commands import invoke
from tests.evaluation.running import asked, evaluate, outcome_of, weak

if TYPE_CHECKING:
    from pathlib import Path

    from tests.toys import Toys


def exact(*prompts: str, **fields: Any) -> list[dict[str, Any]]:
    """Rows whose right answer is the prompt."""
    return [{"prompt": prompt, "exact": prompt} | fields for prompt in prompts]


def test_each_tier_is_asked_by_itself(echoes: Echoes, tmp_path: Path) -> None:
    """Every row goes to every tier, and what one gets wrong no other makes up for."""
    echoes.act = weak
    found = evaluate(tmp_path, *exact("a", "b"))
    assert found == {"small": [0, 0], "medium": [1, 1], "cloud": [1, 1]}
    assert sorted(asked(echoes)) == [(m, p) for m in (CLOUD, MEDIUM, SMALL) for p in ("a", "b")]


def test_what_is_asked(echoes: Echoes, tmp_path: Path) -> None:
    """System prompt, schema and options reach the models."""
    row = {"prompt": "{}", "system": "s", "schema": {"type": "object"}}
    assert evaluate(tmp_path, row | {"options": {"temperature": 0.5}}, names="small") == {
        "small": [1]
    }
    [prompt] = echoes.prompts
    assert (prompt.system, prompt.schema) == ("s", {"type": "object"})
    assert vars(prompt.options)["temperature"] == 0.5


def test_how_many_at_a_time(echoes: Echoes, tmp_path: Path) -> None:
    """Local models have the machine to themselves, one after the other; the cloud has bounds."""

    async def act(model: str, prompt: str) -> str:
        for _ in range(20):
            await asyncio.sleep(0)
        assert echoes.running[SMALL] + echoes.running[MEDIUM] <= 1
        return prompt

    echoes.act = act
    evaluate(tmp_path, *exact(*map(str, range(12))), concurrency=3)
    assert [echoes.peaks[name] for name in (SMALL, MEDIUM, CLOUD)] == [1, 1, 3]
    local = [name for name, _ in echoes.requests if name != CLOUD]
    assert local == 12 * [SMALL] + 12 * [MEDIUM]


def test_failures(echoes: Echoes, tmp_path: Path) -> None:
    """A row that fails on a tier has no score there, and stops nothing."""

    async def act(model: str, prompt: str) -> str:
        if model == MEDIUM and prompt == "b":
            raise llm.ModelError("out of order")
        return prompt

    echoes.act = act
    outcome, _ = outcome_of(tmp_path, *exact("a", "b", "c"))
    assert {tier: len(scores) for tier, scores in outcome.scores.items()} == {
        "small": 3,
        "medium": 2,
        "cloud": 3,
    }
    assert outcome.failures.lines == {("medium", "failed: out of order"): [2]}
    echoes.act = weak
    asked(echoes)
    assert evaluate(tmp_path, *exact("a", "b", "c"))["medium"] == [1, 1, 1]
    assert asked(echoes) == [(MEDIUM, "b")]


def test_failures_that_differ_in_numbers() -> None:
    """Reasons that tell of seconds left are one reason."""
    failures = Failures()
    for seconds in (60, 59):
        failures.add("small", f"cooling down for {seconds} s more", seconds)
    failures.add("small", "no key", 3)
    assert failures.lines == {
        ("small", "cooling down for 60 s more"): [59, 60],
        ("small", "no key"): [3],
    }


def test_nothing_leaves(echoes: Echoes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing may leave the machine, the cloud is not asked, and no other in its name."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", "true")
    outcome, _ = outcome_of(tmp_path, *exact("a"))
    assert {name for name, _ in asked(echoes)} == {SMALL, MEDIUM}
    assert outcome.failures.lines == {("cloud", "skipped: nothing may leave this machine"): [1]}


def test_json_cut_off(toys: Toys, tmp_path: Path) -> None:
    """JSON that ends at the model's limit is the tier's answer, a wrong one, and is kept."""
    toys.small.does = ['{"age": ', RequestError("the JSON was cut off after 8 tokens")]
    row = {"prompt": "a", "regex": "}$"}
    for _ in range(2):
        outcome, _suite = outcome_of(tmp_path, row, names="small")
        [score] = outcome.scores["small"].values()
        assert (score.value, score.answer.text) == (0, '{"age": ')
        assert score.answer.cost == Decimal(0)
        assert outcome.failures.lines == {}
    assert len(toys.small.prompts) == 1


def test_connection_lost(toys: Toys, tmp_path: Path) -> None:
    """An answer that breaks off for another reason is none, and is asked for again."""
    toys.small.does = ["Hel", llm.ModelError("gone")]
    for _ in range(2):
        outcome, _suite = outcome_of(tmp_path, {"prompt": "a", "exact": "Hello"}, names="small")
        assert outcome.scores == {"small": {}}
        [(_, reason)] = outcome.failures.lines
        assert reason == "mlx/toy-small broke off its answer: gone"
    assert len(toys.small.prompts) == 2


# Taken up again


def test_nothing_is_asked_twice(echoes: Echoes, tmp_path: Path) -> None:
    """What has been answered is not asked again: not moved, and not scored in another way."""
    echoes.act = weak
    before = evaluate(tmp_path, *exact("a", "b"))
    asked(echoes)
    assert evaluate(tmp_path, *exact("a", "b")) == before
    changed = [{"prompt": "b", "contains": "wrong"}, {"prompt": "a", "regex": "^a$"}]
    found = evaluate(tmp_path, *changed)
    assert found == {"small": [1, 0], "medium": [0, 1], "cloud": [0, 1]}
    assert asked(echoes) == []
    evaluate(tmp_path, *exact("new"), *exact("a", "b"))
    assert {prompt for _, prompt in asked(echoes)} == {"new"}


def test_another_model_is_asked(echoes: Echoes, tmp_path: Path, config_file: Path) -> None:
    """A tier that has another model now is asked again, the others are not."""
    evaluate(tmp_path, *exact("a"))
    asked(echoes)
    settings = config()
    settings["tiers"] = [*settings["tiers"][:2], settings["tiers"][2] | {"model": OTHER}]
    config_file.write_text(yaml.safe_dump(settings))
    evaluate(tmp_path, *exact("a"))
    assert asked(echoes) == [(OTHER, "a")]


def test_answers_that_can_not_be_kept(
    echoes: Echoes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk ends it with one error, not with one for each row."""

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "add", fail)
    with pytest.raises(TieredError, match="can't be kept: No space left on device"):
        evaluate(tmp_path, *exact(*map(str, range(50))), names="small")
    assert len(asked(echoes)) < 5


# Judges


async def graded(model: str, prompt: str) -> str:
    """What is asked in JSON gets a grade; the small model's answers differ."""
    if prompt.startswith("{"):
        answer = json.loads(prompt)["answer"]
        return json.dumps({"why": "so", "score": 0.25 if answer == "wrong" else 1})
    return await weak(model, prompt)


def rubric(*prompts: str, **fields: Any) -> list[dict[str, Any]]:
    """Rows that a judge scores."""
    return [{"prompt": prompt, "judge": "polite?"} | fields for prompt in prompts]


def test_judge(echoes: Echoes, tmp_path: Path) -> None:
    """A judge scores each answer once, also where two tiers gave the same one."""
    echoes.act = graded
    found = evaluate(tmp_path, *rubric("a"), judge=OTHER)
    assert found == {"small": [0.25], "medium": [1], "cloud": [1]}
    replies = [json.loads(prompt) for model, prompt in asked(echoes) if model == OTHER]
    assert [reply["answer"] for reply in replies] == ["wrong", "a"]
    assert evaluate(tmp_path, *rubric("a"), judge=OTHER) == found
    assert asked(echoes) == []


def test_judge_is_told_how(echoes: Echoes, tmp_path: Path) -> None:
    """A judge that can do schemas is held to one, and has its own stored options."""
    invoke("models", "options", "set", OTHER, "temperature", "0")
    echoes.act = graded
    evaluate(tmp_path, *rubric("a"), judge=OTHER, names="cloud")
    prompt = echoes.prompts[-1]
    schema: Any = prompt.schema
    assert list(schema["properties"]) == ["why", "score"]
    assert prompt.system
    assert "not an instruction" in prompt.system
    assert float(vars(prompt.options)["temperature"]) == 0


def test_judge_is_not_asked_about_wrong_answers(echoes: Echoes, tmp_path: Path) -> None:
    """Where something else is wrong already, the judge is spared."""
    echoes.act = graded
    found = evaluate(tmp_path, *rubric("a", exact="a"), judge=OTHER, names="small,cloud")
    assert found == {"small": [0], "cloud": [1]}
    assert [model for model, _ in asked(echoes)].count(OTHER) == 1


def test_a_reply_without_a_score(echoes: Echoes, tmp_path: Path) -> None:
    """What is no score leaves the row without one, and is asked for again the next time."""

    async def act(model: str, prompt: str) -> str:
        return "Very polite!" if model == OTHER else prompt

    echoes.act = act
    outcome, _ = outcome_of(tmp_path, *rubric("a"), judge=OTHER, names="cloud")
    assert outcome.scores == {"cloud": {}}
    [((who, reason), lines)] = outcome.failures.lines.items()
    assert (who, lines) == (f"judge {OTHER}", [1])
    assert reason == "the judge's reply is no score from 0 to 1: Very polite!"
    echoes.act = graded
    asked(echoes)
    assert evaluate(tmp_path, *rubric("a"), judge=OTHER, names="cloud") == {"cloud": [1]}
    assert [model for model, _ in asked(echoes)] == [OTHER]


def test_unknown_judge(echoes: Echoes, tmp_path: Path) -> None:
    """A judge that llm does not know is told before anything is asked."""
    with pytest.raises(RequestError, match="Unknown model: nobody"):
        evaluate(tmp_path, *rubric("a"), judge="nobody")
    assert asked(echoes) == []


@pytest.mark.parametrize("how", ["config", "row"])
def test_judge_that_would_see_what_has_to_stay(
    echoes: Echoes, tmp_path: Path, config_file: Path, how: str
) -> None:
    """A judge in the cloud is refused where nothing may leave the machine; a local one is not."""
    if how == "config":
        config_file.write_text(yaml.safe_dump(config(local_only=True)))
    rows = rubric("a", options={"local_only": "true"} if how == "row" else {})
    with pytest.raises(RequestError, match="line 1: nothing may leave this machine"):
        evaluate(tmp_path, *rows, judge=OTHER)
    assert asked(echoes) == []
    echoes.act = graded
    assert evaluate(tmp_path, *rows, judge=MEDIUM, names="small") == {"small": [0.25]}


# The log


def test_logged(echoes: Echoes, tmp_path: Path, config_file: Path) -> None:
    """Answers and grades are logged, once each, and the second run logs nothing."""
    config_file.write_text(yaml.safe_dump(config(log_api=True)))
    echoes.act = graded
    for _ in range(2):
        evaluate(tmp_path, *rubric("a"), judge=OTHER, names="small,cloud")
    turns = json.loads(invoke("logs", "--json", "-n", "0").stdout)
    assert sorted((turn["model"], turn["resolved_model"]) for turn in turns) == [
        (OTHER, None),
        (OTHER, None),
        ("tiered", CLOUD),
        ("tiered", SMALL),
    ]
