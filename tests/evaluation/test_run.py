"""A suite through the tiers: requests, answers in the journal, failures, judges, the log."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml
from llm.parts import StreamEvent

from llm_tiered import hooks
from llm_tiered.batch.journal import Journal
from llm_tiered.errors import RequestError, TieredError
from llm_tiered.evaluation.asking import Failures
from llm_tiered.hooks import hookimpl
from tests.batch.echo import CLOUD, MEDIUM, OTHER, SMALL, Echoes, config
from tests.cli.commands import invoke, run
from tests.evaluation.running import evaluate, outcome_of, take_requests, weak

if TYPE_CHECKING:
    from tests.toys import Toys

DATA = Path(__file__).parent / "data"


def exact(*prompts: str, **fields: Any) -> list[dict[str, Any]]:
    """Rows whose right answer is the prompt."""
    return [{"prompt": prompt, "exact": prompt} | fields for prompt in prompts]


def test_each_tier_answers_alone(echoes: Echoes, tmp_path: Path) -> None:
    """Every row goes to every tier, and no tier falls back to another."""
    echoes.act = weak
    scores = evaluate(tmp_path, *exact("a", "b"))
    assert scores == {"small": [0, 0], "medium": [1, 1], "cloud": [1, 1]}
    assert sorted(take_requests(echoes)) == [
        (model, prompt) for model in (CLOUD, MEDIUM, SMALL) for prompt in ("a", "b")
    ]


def test_request(echoes: Echoes, tmp_path: Path) -> None:
    """System prompt, schema and options reach the models."""
    row = {"prompt": "{}", "system": "s", "schema": {"type": "object"}}
    assert evaluate(tmp_path, row | {"options": {"temperature": 0.5}}, names="small") == {
        "small": [1]
    }
    [prompt] = echoes.prompts
    assert (prompt.system, prompt.schema) == ("s", {"type": "object"})
    assert vars(prompt.options)["temperature"] == 0.5


def test_concurrency(echoes: Echoes, tmp_path: Path) -> None:
    """Local models answer one row at a time, one model after another; the cloud has its limit."""

    async def act(model: str, prompt: str) -> str:
        for _ in range(20 if model != CLOUD else 20_000):
            await asyncio.sleep(0)
            if echoes.peaks[CLOUD] == 3:
                break
        assert echoes.running[SMALL] + echoes.running[MEDIUM] <= 1
        return prompt

    echoes.act = act
    evaluate(tmp_path, *exact(*map(str, range(12))), concurrency=3)
    assert [echoes.peaks[name] for name in (SMALL, MEDIUM, CLOUD)] == [1, 1, 3]
    local = [name for name, _ in echoes.requests if name != CLOUD]
    assert local == 12 * [SMALL] + 12 * [MEDIUM]


class CountingHooks:
    """A plugin that counts the estimates and the vetoes it is asked for."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()

    @hookimpl
    def estimate_complexity(self, prompt: llm.Prompt) -> None:
        """Leave the estimate to others."""
        self.calls["estimate", prompt.prompt] += 1

    @hookimpl
    def veto_tier(self, tier: str, prompt: llm.Prompt) -> None:
        """Allow every tier."""
        self.calls[tier, prompt.prompt] += 1


def test_rows_are_routed_once(echoes: Echoes, tmp_path: Path) -> None:
    """Other packages' hooks are called once for each row and tier, and nothing is estimated."""
    plugin = CountingHooks()
    hooks.manager().register(plugin)
    try:
        evaluate(tmp_path, *exact("a", "b"), names="small,cloud")
    finally:
        hooks.manager().unregister(plugin)
    assert plugin.calls == {(tier, prompt): 1 for tier in ("small", "cloud") for prompt in "ab"}


# Failures


def test_failures(echoes: Echoes, tmp_path: Path) -> None:
    """A row that fails on a tier has no score there, and is asked again in the next run."""

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
    take_requests(echoes)
    assert evaluate(tmp_path, *exact("a", "b", "c"))["medium"] == [1, 1, 1]
    assert take_requests(echoes) == [(MEDIUM, "b")]


def test_failures_that_differ_in_numbers() -> None:
    """Reasons that differ only in the seconds left are one reason."""
    failures = Failures()
    for seconds in (60, 59):
        failures.add("small", f"cooling down for {seconds} s more", seconds)
    failures.add("small", "no key", 3)
    assert failures.lines == {
        ("small", "cooling down for 60 s more"): [59, 60],
        ("small", "no key"): [3],
    }


def test_local_only(echoes: Echoes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing may leave the machine, the cloud is not asked, and no tier in its place."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", "true")
    outcome, _ = outcome_of(tmp_path, *exact("a"))
    assert {name for name, _ in take_requests(echoes)} == {SMALL, MEDIUM}
    assert outcome.failures.lines == {("cloud", "skipped: nothing may leave this machine"): [1]}


def test_truncated_json(toys: Toys, tmp_path: Path) -> None:
    """JSON that ends at the model's token limit is a wrong answer, and is not asked again."""
    toys.small.does = ['{"age": ', RequestError("the JSON was cut off after 8 tokens")]
    row = {"prompt": "a", "regex": "}$"}
    for _ in range(2):
        outcome, _cases = outcome_of(tmp_path, row, names="small")
        [score] = outcome.scores["small"].values()
        assert (score.value, score.answer.text) == (0, '{"age": ')
        assert score.answer.cost == Decimal(0)
        assert outcome.failures.lines == {}
    assert len(toys.small.prompts) == 1


def test_thoughts_up_to_the_limit(toys: Toys, tmp_path: Path) -> None:
    """Thoughts that leave no room for an answer are a wrong answer, and not asked for again."""

    def script(prompt: Any, response: Any) -> Any:
        toys.small.prompts.append(prompt)
        yield StreamEvent(type="reasoning", chunk="Let me see.")
        response.response_json = {"finish_reason": "length"}

    toys.small.script = script  # type: ignore[method-assign]  # this toy only
    for _ in range(2):
        outcome, _cases = outcome_of(tmp_path, {"prompt": "a", "exact": "Hello"}, names="small")
        [score] = outcome.scores["small"].values()
        assert (score.value, score.answer.text) == (0, "")
        assert outcome.failures.lines == {}
    assert len(toys.small.prompts) == 1


def test_lost_connection(toys: Toys, tmp_path: Path) -> None:
    """An answer that breaks off for another reason is a failure, and is asked again."""
    toys.small.does = ["Hel", llm.ModelError("gone")]
    for _ in range(2):
        outcome, _cases = outcome_of(tmp_path, {"prompt": "a", "exact": "Hello"}, names="small")
        assert outcome.scores == {"small": {}}
        [(_, why)] = outcome.failures.lines
        assert why == "mlx/toy-small broke off its answer: gone"
    assert len(toys.small.prompts) == 2


# Resumed


def test_no_row_is_asked_twice(echoes: Echoes, tmp_path: Path) -> None:
    """An answered row is not asked again, even if it moves or its criteria change."""
    echoes.act = weak
    before = evaluate(tmp_path, *exact("a", "b"))
    take_requests(echoes)
    assert evaluate(tmp_path, *exact("a", "b")) == before
    changed = [{"prompt": "b", "contains": "wrong"}, {"prompt": "a", "regex": "^a$"}]
    scores = evaluate(tmp_path, *changed)
    assert scores == {"small": [1, 0], "medium": [0, 1], "cloud": [0, 1]}
    assert take_requests(echoes) == []
    evaluate(tmp_path, *exact("new"), *exact("a", "b"))
    assert {prompt for _, prompt in take_requests(echoes)} == {"new"}


def test_another_model(echoes: Echoes, tmp_path: Path, config_file: Path) -> None:
    """A tier with another model is asked again; the other tiers are not."""
    evaluate(tmp_path, *exact("a"))
    take_requests(echoes)
    settings = config()
    settings["tiers"] = [*settings["tiers"][:2], settings["tiers"][2] | {"model": OTHER}]
    config_file.write_text(yaml.safe_dump(settings))
    evaluate(tmp_path, *exact("a"))
    assert take_requests(echoes) == [(OTHER, "a")]


def test_journal_of_an_earlier_version(echoes: Echoes, tmp_path: Path) -> None:
    """With a journal of an earlier version nothing is asked again, and all results are the same."""
    shutil.copytree(DATA, tmp_path / "earlier")
    suite, results = (
        tmp_path / "earlier" / name for name in ("suite.jsonl", "suite.results.jsonl")
    )
    run("eval", str(suite), "--judge", OTHER)
    assert echoes.requests == []
    assert results.read_bytes() == (DATA / "suite.results.jsonl").read_bytes()


def test_full_disk(echoes: Echoes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk ends the evaluation with one error, not with one for each row."""

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "add", fail)
    with pytest.raises(TieredError, match="can't be kept: No space left on device"):
        evaluate(tmp_path, *exact(*map(str, range(50))), names="small")
    assert len(take_requests(echoes)) < 5


# Judges


async def graded(model: str, prompt: str) -> str:
    """Grade a prompt in JSON, and answer any other; the small model answers wrongly."""
    if prompt.startswith("{"):
        answer = json.loads(prompt)["answer"]
        return json.dumps({"why": "so", "score": 0.25 if answer == "wrong" else 1})
    return await weak(model, prompt)


def rubric(*prompts: str, **fields: Any) -> list[dict[str, Any]]:
    """Rows that a judge scores."""
    return [{"prompt": prompt, "judge": "polite?"} | fields for prompt in prompts]


def test_judge(echoes: Echoes, tmp_path: Path) -> None:
    """A judge scores each different answer once, even if several tiers gave it."""
    echoes.act = graded
    scores = evaluate(tmp_path, *rubric("a"), judge=OTHER)
    assert scores == {"small": [0.25], "medium": [1], "cloud": [1]}
    judged = [json.loads(prompt) for model, prompt in take_requests(echoes) if model == OTHER]
    assert [request["answer"] for request in judged] == ["wrong", "a"]
    assert evaluate(tmp_path, *rubric("a"), judge=OTHER) == scores
    assert take_requests(echoes) == []


def test_request_to_a_judge(echoes: Echoes, tmp_path: Path) -> None:
    """A judge gets a schema if it supports them, and its own stored options."""
    invoke("models", "options", "set", OTHER, "temperature", "0")
    echoes.act = graded
    evaluate(tmp_path, *rubric("a"), judge=OTHER, names="cloud")
    prompt = echoes.prompts[-1]
    schema: Any = prompt.schema
    assert list(schema["properties"]) == ["why", "score"]
    assert prompt.system
    assert "not an instruction" in prompt.system
    assert float(vars(prompt.options)["temperature"]) == 0


def test_wrong_answers_are_not_judged(echoes: Echoes, tmp_path: Path) -> None:
    """An answer that fails another criterion is not sent to the judge."""
    echoes.act = graded
    scores = evaluate(tmp_path, *rubric("a", exact="a"), judge=OTHER, names="small,cloud")
    assert scores == {"small": [0], "cloud": [1]}
    assert [model for model, _ in take_requests(echoes)].count(OTHER) == 1


def test_reply_without_a_score(echoes: Echoes, tmp_path: Path) -> None:
    """A reply without a score is a failure, and the judge is asked again in the next run."""

    async def act(model: str, prompt: str) -> str:
        return "Very polite!" if model == OTHER else prompt

    echoes.act = act
    outcome, _ = outcome_of(tmp_path, *rubric("a"), judge=OTHER, names="cloud")
    assert outcome.scores == {"cloud": {}}
    [((addressee, why), lines)] = outcome.failures.lines.items()
    assert (addressee, lines) == (f"judge {OTHER}", [1])
    assert why == "the judge's reply is not a score from 0 to 1: Very polite!"
    echoes.act = graded
    take_requests(echoes)
    assert evaluate(tmp_path, *rubric("a"), judge=OTHER, names="cloud") == {"cloud": [1]}
    assert [model for model, _ in take_requests(echoes)] == [OTHER]


def test_unknown_judge(echoes: Echoes, tmp_path: Path) -> None:
    """A judge that llm does not know is an error before anything is asked."""
    with pytest.raises(RequestError, match="Unknown model: nobody"):
        evaluate(tmp_path, *rubric("a"), judge="nobody")
    assert take_requests(echoes) == []


@pytest.mark.parametrize("how", ["config", "rule", "row"])
def test_judge_in_the_cloud(echoes: Echoes, tmp_path: Path, config_file: Path, how: str) -> None:
    """A judge in the cloud is refused if nothing may leave the machine; a local one is not."""
    if how == "config":
        config_file.write_text(yaml.safe_dump(config(local_only=True)))
    if how == "rule":
        rule = {"words": "a", "place": "here"}
        config_file.write_text(yaml.safe_dump(config(rules=[rule])))
    rows = rubric("a", options={"local_only": "true"} if how == "row" else {})
    with pytest.raises(RequestError, match="line 1: nothing may leave this machine"):
        evaluate(tmp_path, *rows, judge=OTHER)
    assert take_requests(echoes) == []
    echoes.act = graded
    assert evaluate(tmp_path, *rows, judge=MEDIUM, names="small") == {"small": [0.25]}


# The log


def test_log(
    echoes: Echoes, tmp_path: Path, config_file: Path, logs: Path, empty_log: Path
) -> None:
    """Answers and grades are logged once each; a second run logs nothing."""
    shutil.copy(empty_log, logs)
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
