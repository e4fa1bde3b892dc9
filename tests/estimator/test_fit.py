"""Fitting and measuring the shipped coefficients."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from llm_tiered.estimator.features import FEATURES
from llm_tiered.estimator.model import COEFFICIENTS, Coefficients
from tests.estimator import evaluate, fit, simulate
from tests.estimator.questions import LARGE, SMALL, read_questions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.estimator.questions import Question

GROUPS = {"RouteLLM/mmlu": ("algebra", "history"), "LLMRouter/dcrouter": ("trivia", "math")}
SIZE = 60


def _rows() -> list[dict[str, Any]]:
    """Rows of questions that small models answer wrongly if there is arithmetic in them."""
    source = random.Random(0)
    rows = []
    for name, groups in GROUPS.items():
        for group in groups:
            for number in range(SIZE):
                hard = number % 2 == 0
                work = "What is 3 + 4 = x, if x * 5 > 12?" if hard else "Who wrote the play?"
                filler = " ".join(["The garden was green."] * source.randrange(9))
                right = source.random() < (0.2 if hard else 0.9)
                scores = dict.fromkeys(SMALL[name], float(right)) | dict.fromkeys(LARGE[name], 0.9)
                prompt = f"{filler} {work} {source.choice('abc')}"
                rows.append({"source": name, "group": group, "prompt": prompt, "scores": scores})
    return rows


def _file(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> list[Question]:
    """The questions, read from a file."""
    return read_questions(_file(tmp_path_factory.mktemp("data") / "data.jsonl.gz", _rows()))


def _weights(model: Coefficients) -> dict[str, float]:
    return dict(zip(FEATURES, (feature.weight for feature in model.features), strict=True))


# The data


def test_read(tmp_path: Path) -> None:
    """A file may be gzipped or not, and the groups of two sources are separate."""
    plain = read_questions(_file(tmp_path / "data.jsonl", _rows()))
    zipped = read_questions(_file(tmp_path / "data.jsonl.gz", _rows()))
    assert plain == zipped
    assert {question.group for question in plain} == {
        f"{source} {group}" for source, groups in GROUPS.items() for group in groups
    }


def test_best_large_model(tmp_path: Path) -> None:
    """A group is compared with the large model that does best in it."""
    rows = [row for row in _rows() if row["group"] == "trivia"]
    for row in rows:
        row["scores"] |= dict.fromkeys(LARGE["LLMRouter/dcrouter"], 0.1)
        row["scores"][LARGE["LLMRouter/dcrouter"][1]] = 0.7
    assert {
        question.large for question in read_questions(_file(tmp_path / "data.jsonl", rows))
    } == {0.7}


def test_mean_of_small_models(tmp_path: Path) -> None:
    """The score of several small models is their mean, and other models are ignored."""
    row = next(row for row in _rows() if row["group"] == "trivia")
    row["scores"] |= dict(zip(SMALL["LLMRouter/dcrouter"], (1.0, 0.5, 0.0), strict=True))
    row["scores"]["qwen2.5-7b-instruct"] = 1.0
    assert read_questions(_file(tmp_path / "data.jsonl", [row]))[0].small == pytest.approx(0.5)


# The fit


def test_fit_finds_what_matters(questions: list[Question]) -> None:
    """The feature on which small models fail gets the most weight."""
    weights = _weights(fit.fit(questions))
    assert weights["quantities"] == max(weights.values()) > 0.1


def test_fit_orders_prompts(questions: list[Question]) -> None:
    """Hard prompts get the higher scores, also in groups that were held out."""
    scores = evaluate.held_out_scores(questions, fit.fit)
    hard = [score for score, each in zip(scores, questions, strict=True) if "+" in each.prompt]
    easy = [score for score, each in zip(scores, questions, strict=True) if "+" not in each.prompt]
    assert min(hard) > max(easy)


def test_levels_of_groups(tmp_path: Path) -> None:
    """A group in which every answer is wrong does not make its features hard."""
    rows = _rows()
    before = _weights(fit.fit(read_questions(_file(tmp_path / "data.jsonl", rows))))
    for row in rows:
        row["prompt"] += " Not ever, never." if row["group"] == "history" else ""
        if row["group"] == "history":
            row["scores"] |= dict.fromkeys(SMALL[row["source"]], 0.0)
    after = _weights(fit.fit(read_questions(_file(tmp_path / "data.jsonl", rows))))
    assert after["quantities"] > before["quantities"] / 2
    assert after["negations"] < after["quantities"]


def test_scale(questions: list[Question]) -> None:
    """A share of SMALL_SHARE of the prompts is below medium, and the step is positive."""
    model = fit.fit(questions)
    log_odds = [
        model.intercept + sum(model.contributions(question.measures.values))
        for question in questions
    ]
    below = sum(each < model.medium - model.step / 2 for each in log_odds) / len(log_odds)
    assert model.step > 0
    assert below == pytest.approx(fit.SMALL_SHARE, abs=0.06)


def test_held_out_scores(questions: list[Question], tmp_path: Path) -> None:
    """The scores of a group don't depend on the answers to its own questions."""
    rows = _rows()
    for row in rows:
        if row["group"] == "math":
            row["scores"] |= dict.fromkeys(SMALL[row["source"]], 1.0)
    changed = read_questions(_file(tmp_path / "changed.jsonl", rows))
    before, after = (evaluate.held_out_scores(each, fit.fit) for each in (questions, changed))
    for question, one, other in zip(questions, before, after, strict=True):
        assert (one == other) == question.group.endswith("math")


# The file


def test_shipped_file(tmp_path: Path) -> None:
    """The shipped file has the features of the code, in order, as `write` writes it."""
    content = json.loads(COEFFICIENTS.read_text("utf-8"))
    assert tuple(content["features"]) == FEATURES
    again = tmp_path / "again.json"
    fit.write(Coefficients.load(), again)
    assert again.read_bytes() == COEFFICIENTS.read_bytes()


def test_shipped_weights() -> None:
    """No shipped weight is negative, and the step of the scale is positive."""
    model = Coefficients.load()
    assert all(feature.weight >= 0 and feature.spread > 0 for feature in model.features)
    assert model.step > 0


def test_write_twice(
    questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitting again writes the same bytes, and they are read back as they were fitted."""
    data = _file(tmp_path / "data.jsonl", _rows())
    files = []
    for name in ("one.json", "two.json"):
        monkeypatch.setattr(fit, "COEFFICIENTS", tmp_path / name)
        CliRunner().invoke(fit.main, [str(data), "--write"], catch_exceptions=False)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert Coefficients.load(tmp_path / "one.json") == fit.fit(questions)


# The measures


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (lambda gain: gain, 0.9),
        (lambda gain: -gain, 0.1),
        (lambda gain: 0 * gain, 0.5),
    ],
    ids=["oracle", "reversed", "all equal"],
)
def test_apgr(score: Callable[[Any], Any], expected: float) -> None:
    """The oracle recovers nearly the whole gap, its opposite hardly any, and ties half."""
    small, large = np.zeros(100), np.array([1.0] * 20 + [0.0] * 80)
    assert evaluate.apgr(score(large), small, large) == pytest.approx(expected, abs=1e-9)


def test_apgr_of_chance() -> None:
    """Random scores recover half of the gap."""
    generator = np.random.default_rng(1)
    small, large = generator.random(20_000) * 0.5, generator.random(20_000)
    assert evaluate.apgr(generator.random(20_000), small, large) == pytest.approx(0.5, abs=0.02)


def test_table(questions: list[Question]) -> None:
    """There is a row for each source and each group, with an interval."""
    rows = list(evaluate.table(questions, evaluate.held_out_scores(questions, fit.fit)))
    assert [row.name for row in rows] == [
        "LLMRouter/dcrouter",
        "LLMRouter/dcrouter math",
        "LLMRouter/dcrouter trivia",
        "RouteLLM/mmlu",
        "RouteLLM/mmlu algebra",
        "RouteLLM/mmlu history",
    ]
    for row in rows:
        assert row.low <= row.estimate <= row.high
        assert row.over_low <= row.over == row.estimate - row.length <= row.over_high
        assert row.random < row.estimate <= row.oracle


def test_groups_without_a_gap(tmp_path: Path) -> None:
    """A group in which the large model does worse has no row, and a second one leaves it out."""
    rows = _rows()
    for row in rows:
        if row["group"] == "history":
            row["scores"] |= dict.fromkeys(LARGE[row["source"]], 0.0)
    changed = read_questions(_file(tmp_path / "data.jsonl", rows))
    names = [row.name for row in evaluate.table(changed, [1.0] * len(changed))]
    assert "RouteLLM/mmlu history" not in names
    assert "RouteLLM/mmlu, large better" in names


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--evaluate` prints the table and the scale, `--learning` the gains, `--time` the times."""
    monkeypatch.setattr(simulate, "USERS", 2)
    data = _file(tmp_path / "data.jsonl", _rows())
    result = CliRunner().invoke(
        fit.main, [str(data), "--evaluate", "--learning", "--time"], catch_exceptions=False
    )
    for expected in (
        "APGR",
        "oracle",
        "RouteLLM/mmlu",
        "small model wrong",
        "ms p50",
        "Below length by more than the interval: none",
        "users better",
    ):
        assert expected in result.output


def test_data_is_needed() -> None:
    """Without data, fitting and measuring are refused."""
    result = CliRunner().invoke(fit.main, ["--write"])
    assert result.exit_code == 2
    assert "need DATA" in result.output
