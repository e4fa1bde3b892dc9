"""`llm tiered compare`: output, files and errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest

from tests.cli.commands import EMBEDDED, invoke, refused, run, run_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.toys import Toys

LOCAL = ("--tiers", "small,medium")


def test_text_output(toys: Toys) -> None:
    """Each answer is printed under the name of its tier, and a table has the figures."""
    toys.medium.does = ["line one\n", "line two\n"]
    lines = run("compare", "Hello?", *LOCAL).stdout.splitlines()
    assert lines[:8] == [
        "── small: mlx/toy-small ──",
        "small answer",
        "",
        "── medium: mlx/toy-medium ──",
        "line one",
        "line two",
        "",
        lines[7],
    ]
    assert lines[7].split()[:5] == ["tier", "model", "time", "first", "token"]
    assert [line.split()[:2] for line in lines[8:]] == [
        ["small", "mlx/toy-small"],
        ["medium", "mlx/toy-medium"],
    ]
    assert lines[8].split()[-1] == "$0"


def test_all_tiers(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without names all tiers are asked; one that can't answer shows its reason."""
    monkeypatch.delenv("LLM_GEMINI_KEY")
    result = run("compare", "Hello?")
    assert "── cloud: gemini/gemini-flash-latest ──\nno answer: skipped: no key" in result.stdout
    assert result.stdout.splitlines()[-1].split() == ["cloud", "gemini/gemini-flash-latest"]


def test_nobody_answers(toys: Toys) -> None:
    """If no tier answers, the exit code is 1."""
    toys.small.does = toys.medium.does = [llm.ModelError("out of order")]
    result = run("compare", "Hello?", *LOCAL, code=1)
    assert result.stdout.count("no answer: failed: out of order") == 2


def test_several_runs(toys: Toys) -> None:
    """For several runs, the different answers and the spread of the figures are shown."""
    answers = iter(["one", "two", "one"])

    def act() -> None:
        toys.small.does[1:] = [next(answers)]

    toys.small.does = [act, ""]
    printed = run("compare", "Hello?", "--tiers", "small", "-n", "3").stdout
    assert "(1 of 2 different answers)\none\n(2 of 2 different answers)\ntwo\n" in printed


def test_json(toys: Toys) -> None:
    """With --json, nothing else is on stdout."""
    columns = run_json("compare", "Hello?", *LOCAL)
    assert [tier["tier"] for tier in columns] == ["small", "medium"]
    assert columns[0]["answers"] == ["small answer"]


def test_html(toys: Toys, tmp_path: Path) -> None:
    """The page is written in addition to the output."""
    path = tmp_path / "page.html"
    assert "small answer" in run("compare", "<Hello?>", *LOCAL, "--html", str(path)).stdout
    text = path.read_text("utf-8")
    assert "&lt;Hello?&gt;" in text
    assert "medium answer" in text


def test_options(toys: Toys) -> None:
    """Options of the command override the stored options of `tiered`."""
    invoke("models", "options", "set", "tiered", "temperature", "0.1")
    invoke("models", "options", "set", "tiered", "tier", "cloud")
    run("compare", "Hello?", *LOCAL, "-o", "max_tokens", "9", "-s", "Be brief")
    [prompt] = toys.small.prompts
    options: Any = prompt.options
    assert (options.temperature, options.max_tokens, prompt.system) == (0.1, 9, "Be brief")


@pytest.mark.usefixtures("toys", "embedded_model")
def test_embedded_model() -> None:
    """The embedded model is a tier by the name that `status` shows, and only if it is named."""
    arguments = ("compare", "Hello?", "-o", "max_tokens", "4", "--tiers", "embedded,small")
    columns = run_json(*arguments)
    assert [(tier["tier"], tier["model"], len(tier["answers"])) for tier in columns] == [
        ("embedded", EMBEDDED, 1),
        ("small", "mlx/toy-small", 1),
    ]


@pytest.mark.parametrize("form", ["json", "concise", "file"])
def test_schema(toys: Toys, tmp_path: Path, form: str) -> None:
    """A schema is JSON, llm's concise form, or a file with either."""
    schema = json.dumps(llm.schema_dsl("age int"))
    (tmp_path / "schema.json").write_text(schema)
    forms = {"json": schema, "concise": "age int", "file": str(tmp_path / "schema.json")}
    result = run("compare", "Hello?", *LOCAL, "--schema", forms[form], code=1)
    assert "no answer: skipped: can't do schemas" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--tiers", "larg"), "unknown tier 'larg': known are small, medium, cloud, embedded"),
        (("-o", "tier", "small"), "-o tier: each tier is asked alone (use --tiers)"),
        (("-o", "fallback", "any"), "-o fallback: each tier is asked alone"),
        (("-o", "temperature", "9"), "temperature: Input should be less than or equal to 2"),
        (("-o", "colour", "red"), "colour"),
        (("--schema", "{1}"), "--schema: not JSON"),
        (
            ("--schema", '{"type": "integr"}'),
            "--schema: not a valid JSON Schema: 'integr' is not valid",
        ),
        (("--html", "{folder}/none/page.html"), "there is no folder "),
    ],
)
def test_refused(toys: Toys, tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    """Wrong usage is an error of one line before any model is asked."""
    complete = [argument.replace("{folder}", str(tmp_path)) for argument in arguments]
    assert expected in refused("compare", "Hello?", *LOCAL, *complete)
    assert toys.small.prompts == []


def test_logged(toys: Toys, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """Each answer is logged once, like any prompt through the Python API."""
    run("compare", "Hello?", *LOCAL, "-n", "2")
    turns = logged()
    assert {turn["model"] for turn in turns} == {"tiered"}
    assert [turn["resolved_model"] for turn in turns] == [
        *2 * ["mlx/toy-small"],
        *2 * ["mlx/toy-medium"],
    ]
