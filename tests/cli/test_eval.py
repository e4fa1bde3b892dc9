"""`llm tiered eval`: input, output, errors and exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner
from llm.cli import cli

from tests import gemini
from tests.batch.echo import CLOUD, OTHER, SMALL, Echoes, config, registered
from tests.cli.commands import run, run_json
from tests.evaluation.running import take_requests, weak

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result
    from pytest_httpx import HTTPXMock

    from tests.toys import Toys


@pytest.fixture
def echoes(config_file: Path) -> Iterator[Echoes]:
    """Tiers that echo their prompts and log nothing; the small one is always wrong."""
    config_file.write_text(yaml.safe_dump(config()))
    with registered(weak) as plugin:
        yield plugin


def write(folder: Path, *rows: Any) -> str:
    """Write a suite with these rows and return its name. A text is a line, unchanged."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "suite.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(folder / "suite.jsonl")


def exact(number: int, **fields: Any) -> list[dict[str, Any]]:
    """Rows that a model answers correctly by repeating the prompt."""
    name = fields.get("task", "row")
    return [{"prompt": f"{name} {i}", "exact": f"{name} {i}"} | fields for i in range(number)]


def wrong_usage(*args: str) -> str:
    """Run `llm tiered eval …`, expect exit code 2, and return the error at the end of stderr."""
    result = run("eval", *args, code=2)
    assert result.stdout == ""
    return result.stderr.splitlines()[-1].removeprefix("Error: ")


def tables(result: Result) -> dict[str, list[list[str]]]:
    """The words of the tables, by heading."""
    blocks = (block.splitlines() for block in result.stdout.split("\n\n")[1:])
    return {lines[0]: [line.split() for line in lines[2:]] for lines in blocks}


# Output


def test_text_output(echoes: Echoes, tmp_path: Path) -> None:
    """Each tier's quality, cost, time and verdict are shown, then the cheapest tier."""
    result = run("eval", write(tmp_path, *exact(40)))
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["small", SMALL]
    rows = tables(result)["all: 40 rows"]
    small, medium, cloud, cheapest = rows
    assert small[:6] == ["small", "40", "0.0%", "0.0%", "to", "8.8%"]
    assert small[9:] == ["worse", "-100.0", "(-100.0", "to", "-87.6)", "1.8e-12"]
    assert medium[:3] == ["medium", "40", "100.0%"]
    assert medium[9:] == ["as", "good", "+0.0", "(-8.8", "to", "+8.8)", "1"]
    assert cloud[:3] == ["cloud", "40", "100.0%"]
    assert cloud[6] == "unknown"
    assert " ".join(cheapest) == "cheapest that is as good as cloud: medium"
    assert lines[-1] == "tests: exact McNemar"
    assert result.stderr == ""


def test_json(echoes: Echoes, tmp_path: Path) -> None:
    """With --json the same figures are there for all rows and for each task."""
    name = write(tmp_path, *exact(40, task="sums"), *exact(2, task="facts"))
    facts = run_json("eval", name)
    assert (facts["suite"], facts["results"]) == (name, str(tmp_path / "suite.results.jsonl"))
    assert {task: group["cheapest"] for task, group in facts["tasks"].items()} == {
        "facts": None,
        "sums": "medium",
    }
    assert facts["all"]["rows"] == 42
    assert facts["all"]["tiers"][0]["against"]["verdict"] == "worse"
    assert (facts["bad"], facts["failures"]) == ([], [])


def test_results(echoes: Echoes, tmp_path: Path) -> None:
    """Each answer is written with its score and what is wrong with it."""
    run("eval", write(tmp_path, {"prompt": "é", "exact": "é", "id": "x", "task": "t"}))
    written = (tmp_path / "suite.results.jsonl").read_text("utf-8").splitlines()
    small, _, cloud = map(json.loads, written)
    assert small.pop("ms") >= 0
    assert small == {
        "line": 1,
        "id": "x",
        "task": "t",
        "tier": "small",
        "model": SMALL,
        "score": 0,
        "why": 'is not "é"',
        "response": "wrong",
        "input_tokens": 3,
        "output_tokens": 2,
        "cost": 0,
    }
    assert (cloud["model"], cloud["score"], cloud["why"], cloud["cost"]) == (CLOUD, 1, None, None)


def test_few_rows(echoes: Echoes, tmp_path: Path) -> None:
    """With few rows there is no verdict."""
    result = run("eval", write(tmp_path, *exact(3)))
    assert "cheapest that is as good as cloud: too few rows to tell" in result.stdout
    assert result.stdout.count("too few rows") == 3


def test_nothing_right(echoes: Echoes, tmp_path: Path) -> None:
    """A cloud tier that gets nothing right is not a useful reference, and the output says so."""
    rows = [{"prompt": str(i), "exact": "x"} for i in range(40)]
    expected = "unknown: cloud itself gets almost nothing right"
    assert expected in run("eval", write(tmp_path, *rows)).stdout


def test_judge(echoes: Echoes, tmp_path: Path) -> None:
    """A judge's grades are scores, and its replies are counted separately."""

    async def act(model: str, prompt: str) -> str:
        return '{"why": "so", "score": 0.5}' if model == OTHER else prompt

    echoes.act = act
    name = write(tmp_path, {"prompt": "a", "judge": "polite?"})
    result = run("eval", name, "--judge", OTHER)
    assert "50.0%" in result.stdout
    assert result.stdout.splitlines()[-2:] == [
        "tests: paired bootstrap",
        "replies from judges: 1, cost: unknown",
    ]


def test_costs(toys: Toys, tmp_path: Path, httpx_mock: HTTPXMock) -> None:
    """The cost of a cloud answer comes from its tokens, in a later run as well."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    name = write(tmp_path, {"prompt": "a", "contains": "Hello"})
    first, second = (run_json("eval", name) for _ in range(2))
    assert first == second
    small, _, cloud = first["all"]["tiers"]
    assert (small["cost"], small["unpriced"]) == (0, 0)
    assert 0 < cloud["cost"] < 0.001


# Input


def test_bad_rows(echoes: Echoes, tmp_path: Path) -> None:
    """Invalid rows are reported with their lines, the others run, and the exit code is 1."""
    name = write(tmp_path, *exact(1), "oops", {"prompt": "no way to score it"}, *exact(1))
    result = run("eval", name, code=1)
    assert "all: 2 rows" in result.stdout
    first, second = result.stderr.splitlines()
    assert first.startswith("line 2: not JSON")
    assert second.startswith("line 3: nothing to score it by")


def test_failed_rows(echoes: Echoes, tmp_path: Path) -> None:
    """A tier that can't answer is reported once, with the lines, and the exit code is 1."""

    async def act(model: str, prompt: str) -> str:
        if model == SMALL:
            raise ValueError("broken")
        return prompt

    echoes.act = act
    result = run("eval", write(tmp_path, *exact(7)), code=1)
    assert result.stderr == "small: lines 1, 2, 3, 4, 5 and 2 more: failed: ValueError: broken\n"
    assert tables(result)["all: 7 rows"][0][:2] == ["small", "0"]


def test_results_outlast_a_run_without_answers(echoes: Echoes, tmp_path: Path) -> None:
    """A run in which no tier can answer leaves the results of an earlier one alone."""
    name = write(tmp_path, *exact(2))
    run("eval", name, "--tiers", "medium")
    results = (tmp_path / "suite.results.jsonl").read_bytes()
    assert len(results.splitlines()) == 2

    async def fail(model: str, prompt: str) -> str:
        raise ValueError("broken")

    echoes.act = fail
    run("eval", name, "--tiers", "small", code=1)
    assert (tmp_path / "suite.results.jsonl").read_bytes() == results


def test_tiers(echoes: Echoes, tmp_path: Path) -> None:
    """Only the named tiers are asked."""
    facts = run_json("eval", write(tmp_path, *exact(1)), "--tiers", "small,cloud")
    assert [tier["tier"] for tier in facts["all"]["tiers"]] == ["small", "cloud"]
    assert sorted(model for model, _ in echoes.requests) == [CLOUD, SMALL]


def test_restart(echoes: Echoes, tmp_path: Path) -> None:
    """With --restart everything is asked again; without it, nothing is."""
    name = write(tmp_path, *exact(2))
    for arguments, expected in (((), 6), ((), 0), (("--restart",), 6)):
        run("eval", name, *arguments)
        assert len(take_requests(echoes)) == expected


def test_output(echoes: Echoes, tmp_path: Path) -> None:
    """With --output, the journal is beside that file."""
    run("eval", write(tmp_path, *exact(1)), "-o", str(tmp_path / "out.jsonl"))
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names == {"suite.jsonl", "out.jsonl", "out.jsonl.journal"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nothing.jsonl",), "nothing.jsonl"),
        (("{thesis}",), "has no usable row; line 1: not JSON"),
        (("{rows}", "--tiers", "smal"), "unknown tier 'smal': did you mean small?"),
        (("{judged}",), "has no usable row; line 1: judge: needs a judge_model"),
        (("{judged}", "--judge", "nobody"), "Unknown model: nobody"),
        (("{rows}", "-o", "{rows}"), "is the suite itself (-o FILE)"),
        (("{rows}", "-o", "{rows}", "--restart"), "is the suite itself (-o FILE)"),
        (
            ("{rows}", "-o", "{thesis}"),
            "was not written by this command (choose another -o, or --restart",
        ),
        (("{rows}", "-o", "{folder}/none/out.jsonl"), "there is no folder "),
        (("{rows}", "--concurrency", "0"), "--concurrency"),
        (("{rows}", "--apply"), "--apply: no row in "),
    ],
)
def test_wrong_usage(
    echoes: Echoes, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    """Wrong usage ends with exit code 2 before anything is asked or written."""
    (tmp_path / "thesis").write_text("My thesis\n")
    (tmp_path / "judged").write_text('{"prompt": "a", "judge": "polite?"}\n')
    places = {name: str(tmp_path / name) for name in ("thesis", "judged")}
    places |= {"rows": write(tmp_path, *exact(1)), "folder": str(tmp_path)}
    assert expected in wrong_usage(*(argument.format(**places) for argument in arguments))
    assert take_requests(echoes) == []
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"thesis", "judged", "suite.jsonl"}


# Changes to the config

MINE = """\
# my tiers
tiers:
  - {name: small, complexity: 1-4, model: mlx/echo-small}  # wrong
  - {name: medium, complexity: 5-7, model: mlx/echo-medium}
  - {name: cloud, complexity: 8-10, model: cloud/echo}
tasks:
  sums: 9 # hard ones
  theory_analysis: {complexity: 2}
  juggling: 1

# nothing of it
log_api: false
"""


@pytest.fixture
def mine(echoes: Echoes, config_file: Path, tmp_path: Path) -> str:
    """A config with comments, and a suite with tasks that are wrong, missing or right in it."""
    config_file.write_text(MINE)
    tasks = ("sums", "theory_analysis", "new", "voicing_generation")
    rows = [row for task in tasks for row in exact(40, task=task)]
    return write(tmp_path, *rows, *exact(2, task="juggling"))


def test_apply(mine: str, config_file: Path) -> None:
    """Tasks get the nearest complexity of the tier that is good enough; nothing else changes.

    A task that is there already stays as it is, and so does one with too few rows.
    """
    result = run("eval", mine, "--apply", "--yes")
    assert config_file.read_text() == MINE.replace("sums: 9", "new: 5\n  sums: 7").replace(
        "complexity: 2}", "complexity: 5}"
    )
    assert "\n-  sums: 9 # hard ones\n" in result.stderr
    assert "\n+  sums: 7 # hard ones\n" in result.stderr
    assert "juggling: unchanged: too few rows to tell" in result.stderr
    assert f"{config_file} written" in result.stderr
    again = run("eval", mine, "--apply", "--yes")
    assert "nothing to apply" in again.stderr


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 0), ("", 1)])
def test_apply_asks(mine: str, config_file: Path, answer: str, code: int) -> None:
    """Nothing is written without confirmation, and stdout is still JSON."""
    arguments = ["tiered", "eval", mine, "--apply", "--json"]
    result = CliRunner().invoke(cli, arguments, input=answer)
    assert result.exit_code == code
    assert json.loads(result.stdout)["tasks"]["sums"]["cheapest"] == "medium"
    assert "Write these changes?" in result.stderr
    assert (config_file.read_text() != MINE) == (answer == "y\n")


def test_apply_without_a_config(echoes: Echoes, config_file: Path, tmp_path: Path) -> None:
    """A config without tasks gets them."""
    settings = yaml.safe_dump(config())
    config_file.write_text(settings)
    run("eval", write(tmp_path, *exact(40, task="sums")), "--apply", "--yes")
    assert yaml.safe_load(config_file.read_text()) == config(tasks={"sums": 5})


@pytest.mark.usefixtures("echoes", "embedded_model")
def test_apply_leaves_the_embedded_model_out(config_file: Path, tmp_path: Path) -> None:
    """A task that the embedded model does well keeps its complexity, as none leads to it."""
    before = config_file.read_text()
    row = {"prompt": "a", "regex": ".*", "task": "sums", "options": {"max_tokens": 2}}
    arguments = [write(tmp_path, *[row] * 40), "--tiers", "embedded,cloud", "--apply", "--yes"]
    result = run("eval", *arguments)
    assert "cheapest that is as good as cloud: embedded" in result.stdout
    assert "sums: unchanged: no complexity leads to embedded" in result.stderr
    assert config_file.read_text() == before
