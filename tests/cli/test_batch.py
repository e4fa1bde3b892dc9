"""`llm tiered batch`: input, output, errors and exit codes."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click
import llm
import pytest
import yaml
from click.testing import CliRunner
from llm.cli import cli

from tests.batch.echo import CLOUD, MEDIUM, OTHER, SMALL, SYNC, Echoes, config
from tests.cli.batching import batch, new_prompts, parse, responses, small, write_rows, wrong_usage
from tests.cli.commands import invoke, prompt

if TYPE_CHECKING:
    from pathlib import Path


# Input and output


def test_jsonl_to_stdout(echoes: Echoes, tmp_path: Path) -> None:
    """Answers go to stdout, in order, and nothing else does."""
    rows = [{"id": i, "prompt": f"é {i}", "complexity": 1 + i} for i in range(10)]
    result = batch(write_rows(tmp_path, *rows))
    answers = parse(result.stdout)
    assert [(answer["id"], answer["response"]) for answer in answers] == [
        (row["id"], row["prompt"]) for row in rows
    ]
    assert [answer["model"] for answer in answers] == 4 * [SMALL] + 3 * [MEDIUM] + 3 * [CLOUD]
    assert "é 1" in result.stdout
    assert "10 rows: 10 answered, 0 failed, 0 skipped as done" in result.stderr


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("rows.csv", ["prompt,complexity", "a,2", "b,2"]),
        ("rows.txt", ["a", "b"]),
        ("rows.ndjson", small("a", "b")),
    ],
)
def test_formats(echoes: Echoes, tmp_path: Path, name: str, lines: list[Any]) -> None:
    """The format follows from the file's name."""
    assert responses(batch(write_rows(tmp_path, *lines, name=name)).stdout) == ["a", "b"]


def test_format(echoes: Echoes, tmp_path: Path) -> None:
    """--format overrides the file's name."""
    name = write_rows(tmp_path, "a", "b")
    assert responses(batch(name, "--format", "text").stdout) == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "data"),
    [((), '{"prompt": "a"}\n{"prompt": "b"}'), (("--format", "csv"), "prompt\na\nb\n")],
)
def test_stdin(echoes: Echoes, arguments: tuple[str, ...], data: str) -> None:
    """Standard input is JSONL unless --format says otherwise."""
    command = ["tiered", "batch", "-", *arguments]
    result = CliRunner().invoke(cli, command, input=data, catch_exceptions=False)
    assert result.exit_code == 0
    assert responses(result.stdout) == ["a", "b"]


def test_failures(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """Each row that fails is reported with its line number, and the exit code is 1."""
    name = write_rows(tmp_path, *small("a"), "oops", {"prompt": "b", "task": "x"}, *small("c"))
    result = batch(name, "-o", str(output), code=1)
    assert [answer["line"] for answer in parse(output.read_text()) if "error" in answer] == [2, 3]
    assert "line 2: not JSON" in result.stderr
    assert "line 3: unknown task 'x'" in result.stderr
    assert "4 rows: 2 answered, 2 failed" in result.stderr
    assert result.stdout == ""


def test_strict(echoes: Echoes, tmp_path: Path) -> None:
    """With --strict, a batch stops at the first row that fails, with exit code 1."""
    name = write_rows(tmp_path, "oops", *small(*map(str, range(200))))
    result = batch(name, "--strict", code=1)
    assert parse(result.stdout)[0]["line"] == 1
    assert new_prompts(echoes) == []


def test_no_rows(echoes: Echoes, tmp_path: Path) -> None:
    """A file without rows succeeds."""
    result = batch(write_rows(tmp_path))
    assert result.stdout == ""
    assert "0 rows: 0 answered" in result.stderr


def test_limit(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """With --limit only the first rows are asked; a later run without it asks the others."""
    arguments = (write_rows(tmp_path, *small("a", "b", "c")), "-o", str(output))
    batch(*arguments, "--limit", "2")
    assert new_prompts(echoes) == responses(output.read_text()) == ["a", "b"]
    batch(*arguments)
    assert new_prompts(echoes) == ["c"]
    assert responses(output.read_text()) == ["a", "b", "c"]


def test_unordered(echoes: Echoes, tmp_path: Path) -> None:
    """With --unordered, all answers are written."""
    name = write_rows(tmp_path, *small("a", "b", "c"))
    assert sorted(responses(batch(name, "--unordered").stdout)) == ["a", "b", "c"]


def test_pipe_as_output(echoes: Echoes, tmp_path: Path) -> None:
    """An output that is not a regular file gets the answers, but no journal."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        batch(write_rows(tmp_path, *small("a")), "-o", str(pipe))
        assert responses(os.read(reader, 1_000_000).decode()) == ["a"]
    finally:
        os.close(reader)
    assert [*folder.iterdir()] == [pipe]


# Options


def test_options_for_all(echoes: Echoes, tmp_path: Path) -> None:
    """Options, system prompt and schema apply to rows without their own."""
    own = {"prompt": '{"y": ""}', "complexity": 9, "system": "own", "schema": "y"}
    rows = [{"prompt": '{"x": ""}'}, own]
    options = ("--option", "complexity", "2", "--option", "temperature", "0.5", "-s", "all")
    batch(write_rows(tmp_path, *rows), *options, "--schema", "x")
    assert [model for model, _ in echoes.requests] == [SMALL, CLOUD]
    assert [prompt.system for prompt in echoes.prompts] == ["all", "own"]
    schemas: list[Any] = [prompt.schema for prompt in echoes.prompts]
    assert [list(schema["properties"]) for schema in schemas] == [["x"], ["y"]]
    assert [vars(prompt.options)["temperature"] for prompt in echoes.prompts] == [0.5, 0.5]


@pytest.mark.parametrize("form", ["json", "concise", "longer than a file's name", "file"])
def test_schema(echoes: Echoes, tmp_path: Path, form: str) -> None:
    """A schema is JSON, llm's concise form, or the name of a file with either."""
    schema = llm.schema_dsl("name, age int")
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    forms = {
        "json": json.dumps(schema),
        "concise": "name, age int",
        "longer than a file's name": f"name, {' ' * 5000}age int",
        "file": str(tmp_path / "schema.json"),
    }
    batch(write_rows(tmp_path, *small('{"name": "Rex", "age": 3}')), "--schema", forms[form])
    [prompt] = echoes.prompts
    assert prompt.schema == schema


def test_stored_options(echoes: Echoes, tmp_path: Path) -> None:
    """Stored options of the model apply unless the command overrides them."""
    invoke("models", "options", "set", "tiered", "tier", "cloud")
    name = write_rows(tmp_path, "a", name="rows.txt")
    batch(name)
    batch(name, "--option", "tier", "medium")
    assert [model for model, _ in echoes.requests] == [CLOUD, MEDIUM]


def test_other_model(echoes: Echoes, tmp_path: Path) -> None:
    """Any model of llm can answer."""
    name = write_rows(tmp_path, *small("a"))
    [answer] = parse(batch(name, "-m", OTHER).stdout)
    assert (answer["model"], answer["tier"]) == (OTHER, None)


def test_model_without_async_version(echoes: Echoes, tmp_path: Path, config_file: Path) -> None:
    """A model that is only sync answers a batch, alone and as a tier."""
    name = write_rows(tmp_path, *small(*"abcdef"))
    assert responses(batch(name, "-m", SYNC).stdout) == [*"abcdef"]
    tiers = [{"name": "all", "complexity": "1-10", "model": SYNC}]
    config_file.write_text(yaml.safe_dump(config(tiers=tiers)))
    answers = parse(batch(name).stdout)
    assert [(answer["response"], answer["model"]) for answer in answers] == [
        (letter, SYNC) for letter in "abcdef"
    ]


def test_warnings_once(
    echoes: Echoes, tmp_path: Path, config_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fallback is reported once, not for each row."""

    async def act(model: str, prompt: str) -> str:
        if model == MEDIUM:
            raise llm.ModelError("out of order")
        return prompt

    echoes.act = act
    config_file.write_text(yaml.safe_dump(config(fallback="any")))
    result = batch(write_rows(tmp_path, *({"prompt": str(i), "tier": "medium"} for i in range(5))))
    assert result.stderr.count(f"{SMALL} answers for medium") == 1
    assert len(caplog.records) == 1


# Wrong usage


@pytest.mark.parametrize(("stream", "file"), [("stdin", "-"), ("stdout", "{rows}")])
def test_closed_stream(
    echoes: Echoes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str, file: str
) -> None:
    """Closed standard input or output is an error."""
    monkeypatch.setattr(sys, stream, None)
    name = file.format(rows=write_rows(tmp_path, *small("a")))
    with pytest.raises(click.ClickException, match="is closed") as raised:
        cli(["tiered", "batch", name], standalone_mode=False)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nothing.jsonl",), "nothing.jsonl"),
        (("{rows}", "-m", "nobody"), "Unknown model: nobody (llm models)"),
        (("{rows}", "--option", "complexity", "11"), "from 1 to 10"),
        (("{rows}", "--option", "colour", "red"), "colour"),
        (("{rows}", "--schema", "{{1}}"), "schema: not JSON"),
        (
            ("{rows}", "--schema", '{{"type": "integr"}}'),
            "--schema: not a valid JSON Schema: 'integr' ",
        ),
        (("{rows}", "--schema", "schema.json"), "--schema: there is no file schema.json"),
        (("{rows}", "--schema", "{folder}/schema"), "--schema: there is no file "),
        (("{rows}", "--concurrency", "0"), "--concurrency"),
        (("{rows}", "--rate", "0"), "--rate"),
        (("{rows}", "--wait", "soon"), "'--wait': found 'soon', expected a duration such as 90s"),
        (("{rows}", "--limit", "0"), "--limit"),
        (("{rows}", "-o", "{rows}"), "rows.jsonl is the input"),
        (("{rows}", "-o", "{folder}/none/out.jsonl"), "there is no folder "),
        (("{rows}", "-o", "{folder}"), "is a directory"),
        (
            ("{rows}", "-o", "{thesis}"),
            "was not written by this command (choose another -o, or --restart",
        ),
        (("{thesis}",), "from its name (--format jsonl|csv|text)"),
        (("{rows}", "--format", "csv"), "the CSV has no column 'prompt'"),
        (("{rows}", "--format", "pdf"), "--format"),
    ],
)
def test_wrong_usage(
    echoes: Echoes, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    """Wrong usage ends with exit code 2 before anything is asked or written."""
    (tmp_path / "thesis").write_text("My thesis\n")
    before = write_rows(tmp_path, *small("a"))
    places = {"rows": before, "folder": str(tmp_path), "thesis": str(tmp_path / "thesis")}
    assert expected in wrong_usage(*(argument.format(**places) for argument in arguments))
    assert new_prompts(echoes) == []
    assert (tmp_path / "thesis").read_text() == "My thesis\n"
    assert {path.name for path in tmp_path.iterdir()} == {"thesis", "rows.jsonl"}


def test_wrong_config(echoes: Echoes, tmp_path: Path, config_file: Path) -> None:
    """A mistake in the config ends with exit code 2 as well."""
    config_file.write_text("fallback: somebody")
    assert "fallback" in wrong_usage(write_rows(tmp_path, *small("a")))


# A real model


@pytest.mark.usefixtures("tiny_tiers")
def test_mlx(tmp_path: Path, output: Path) -> None:
    """A local model gives the same answers in a batch as alone, and all of them are logged."""
    rows: list[Any] = [{"prompt": f"What is {i}?", "complexity": 2 + 4 * (i % 2)} for i in range(6)]
    batch(write_rows(tmp_path, *rows), "-o", str(output))
    answers = parse(output.read_text())
    assert [answer["model"] for answer in answers] == ["mlx/tiny", "mlx/larger"] * 3
    assert {answer["output_tokens"] for answer in answers} == {8}
    logged = json.loads(invoke("logs", "--json", "-n", "0").stdout)
    assert sorted(turn["response"] for turn in logged) == sorted(
        answer["response"] for answer in answers
    )
    alone = prompt("-m", "mlx/tiny", "-o", "max_tokens", "8", rows[2]["prompt"])
    assert answers[2]["response"].strip() == alone
