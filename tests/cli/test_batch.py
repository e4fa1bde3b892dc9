"""`llm tiered batch`: what it reads, writes, refuses and says, and with which exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml
from click.testing import CliRunner
from llm.cli import cli

from tests.batch.echo import CLOUD, MEDIUM, OTHER, SMALL, Echoes, config, registered
from tests.cli.commands import invoke, prompt, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def echoes(config_file: Path) -> Iterator[Echoes]:
    """Echoes as tiers, which log nothing and fall back on nobody."""
    config_file.write_text(yaml.safe_dump(config()))
    with registered() as plugin:
        yield plugin


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the answers go; nothing is there."""
    return tmp_path / "answers.jsonl"


def write_rows(tmp_path: Path, *rows: Any, name: str = "rows.jsonl") -> str:
    """A file with those rows; gives its name. A text is a line as it stands."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(tmp_path / name)


def small(*prompts: str) -> list[dict[str, Any]]:
    """Rows for the small tier."""
    return [{"prompt": text, "complexity": 2} for text in prompts]


def parse(text: str) -> list[dict[str, Any]]:
    """The answers in an output."""
    return [json.loads(line) for line in text.splitlines()]


def responses(text: str) -> list[str]:
    """The responses and errors in an output."""
    return [answer.get("response") or answer["error"] for answer in parse(text)]


def asked(echoes: Echoes) -> list[str]:
    """The prompts that were asked since the last time."""
    found = [text for _, text in echoes.asked]
    echoes.asked.clear()
    return found


def batch(*args: str, code: int = 0) -> Result:
    """Run `llm tiered batch …`."""
    return run("batch", *args, code=code)


def wrong_usage(*args: str) -> str:
    """Run `llm tiered batch …`, which has to end with 2 and an error at the end of stderr."""
    result = batch(*args, code=2)
    assert result.stdout == ""
    return result.stderr.splitlines()[-1].removeprefix("Error: ")


# What goes in and comes out


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
    """A file's name tells its format."""
    assert responses(batch(write_rows(tmp_path, *lines, name=name)).stdout) == ["a", "b"]


def test_format_given(echoes: Echoes, tmp_path: Path) -> None:
    """A format that is given wins over the name."""
    name = write_rows(tmp_path, "a", "b")
    assert responses(batch(name, "--format", "text").stdout) == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "data"),
    [((), '{"prompt": "a"}\n{"prompt": "b"}'), (("--format", "csv"), "prompt\na\nb\n")],
)
def test_stdin(echoes: Echoes, given: tuple[str, ...], data: str) -> None:
    """Standard input is JSONL, unless another format is given."""
    arguments = ["tiered", "batch", "-", *given]
    result = CliRunner().invoke(cli, arguments, input=data, catch_exceptions=False)
    assert result.exit_code == 0
    assert responses(result.stdout) == ["a", "b"]


def test_failures(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """With rows that fail the exit code is 1, and each is told with its line."""
    name = write_rows(tmp_path, *small("a"), "oops", {"prompt": "b", "task": "x"}, *small("c"))
    result = batch(name, "-o", str(output), code=1)
    assert [answer["line"] for answer in parse(output.read_text()) if "error" in answer] == [2, 3]
    assert "line 2: not JSON" in result.stderr
    assert "line 3: unknown task 'x'" in result.stderr
    assert "4 rows: 2 answered, 2 failed" in result.stderr
    assert result.stdout == ""


def test_strict(echoes: Echoes, tmp_path: Path) -> None:
    """A strict batch stops at the first row that fails, with 1."""
    name = write_rows(tmp_path, "oops", *small(*map(str, range(200))))
    result = batch(name, "--strict", code=1)
    assert parse(result.stdout)[0]["line"] == 1
    assert asked(echoes) == []


def test_no_rows(echoes: Echoes, tmp_path: Path) -> None:
    """A file without rows is answered in full."""
    result = batch(write_rows(tmp_path))
    assert result.stdout == ""
    assert "0 rows: 0 answered" in result.stderr


def test_limit(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """With a limit, only the first rows are asked; without it, the others are, later."""
    arguments = (write_rows(tmp_path, *small("a", "b", "c")), "-o", str(output))
    batch(*arguments, "--limit", "2")
    assert asked(echoes) == responses(output.read_text()) == ["a", "b"]
    batch(*arguments)
    assert asked(echoes) == ["c"]
    assert responses(output.read_text()) == ["a", "b", "c"]


def test_unordered(echoes: Echoes, tmp_path: Path) -> None:
    """Unordered, all answers are there."""
    name = write_rows(tmp_path, *small("a", "b", "c"))
    assert sorted(responses(batch(name, "--unordered").stdout)) == ["a", "b", "c"]


def test_device_as_output(echoes: Echoes, tmp_path: Path) -> None:
    """An output that is no file has no journal."""
    batch(write_rows(tmp_path, *small("a")), "-o", "/dev/null")


# Options


def test_options_for_all(echoes: Echoes, tmp_path: Path) -> None:
    """Options, system prompt and schema hold for rows that have none."""
    rows = [{"prompt": "a"}, {"prompt": "b", "complexity": 9, "system": "own", "schema": "y"}]
    options = ("--option", "complexity", "2", "--option", "temperature", "0.5", "-s", "all")
    batch(write_rows(tmp_path, *rows), *options, "--schema", "x")
    assert [model for model, _ in echoes.asked] == [SMALL, CLOUD]
    assert [prompt.system for prompt in echoes.prompts] == ["all", "own"]
    schemas: list[Any] = [prompt.schema for prompt in echoes.prompts]
    assert [list(schema["properties"]) for schema in schemas] == [["x"], ["y"]]
    assert [vars(prompt.options)["temperature"] for prompt in echoes.prompts] == [0.5, 0.5]


@pytest.mark.parametrize("form", ["json", "concise", "file"])
def test_schema(echoes: Echoes, tmp_path: Path, form: str) -> None:
    """A schema is JSON, llm's concise form or the name of a file."""
    schema = llm.schema_dsl("name, age int")
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    given = {
        "json": json.dumps(schema),
        "concise": "name, age int",
        "file": str(tmp_path / "schema.json"),
    }
    batch(write_rows(tmp_path, *small("{}")), "--schema", given[form])
    [prompt] = echoes.prompts
    assert prompt.schema == schema


def test_stored_options(echoes: Echoes, tmp_path: Path) -> None:
    """Options that are stored for the model hold, unless others are given."""
    invoke("models", "options", "set", "tiered", "tier", "cloud")
    name = write_rows(tmp_path, "a", name="rows.txt")
    batch(name)
    batch(name, "--option", "tier", "medium")
    assert [model for model, _ in echoes.asked] == [CLOUD, MEDIUM]


def test_other_model(echoes: Echoes, tmp_path: Path) -> None:
    """Any model of llm's can answer, if it is async."""
    name = write_rows(tmp_path, *small("a"))
    [answer] = parse(batch(name, "-m", OTHER).stdout)
    assert (answer["model"], answer["tier"]) == (OTHER, None)


def test_warnings_once(
    echoes: Echoes, tmp_path: Path, config_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fallback is told once, not once a row."""

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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nothing.jsonl",), "nothing.jsonl"),
        (("{rows}", "-m", "nobody"), "Unknown model: nobody (llm models --async)"),
        (("{rows}", "--option", "complexity", "11"), "less than or equal to 10"),
        (("{rows}", "--option", "colour", "red"), "colour"),
        (("{rows}", "--schema", "{{1}}"), "schema: not JSON"),
        (("{rows}", "--concurrency", "0"), "--concurrency"),
        (("{rows}", "--rate", "0"), "--rate"),
        (("{rows}", "--limit", "0"), "--limit"),
        (("{rows}", "-o", "{rows}"), "rows.jsonl is the input"),
        (("{rows}", "-o", "{folder}/none/out.jsonl"), "there is no folder "),
        (("{rows}", "-o", "{folder}"), "is a directory"),
        (("{rows}", "-o", "{thesis}"), "is no work of this command's (another -o, or --restart"),
        (("{thesis}",), "does not tell its format (--format jsonl|csv|text)"),
        (("{rows}", "--format", "csv"), "the CSV has no column 'prompt'"),
        (("{rows}", "--format", "pdf"), "--format"),
    ],
)
def test_wrong_usage(
    echoes: Echoes, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    """What can't be meant ends with 2 before anything is asked or written."""
    (tmp_path / "thesis").write_text("My thesis\n")
    before = write_rows(tmp_path, *small("a"))
    places = {"rows": before, "folder": str(tmp_path), "thesis": str(tmp_path / "thesis")}
    assert expected in wrong_usage(*(argument.format(**places) for argument in arguments))
    assert asked(echoes) == []
    assert (tmp_path / "thesis").read_text() == "My thesis\n"
    assert {path.name for path in tmp_path.iterdir()} == {"llm", "thesis", "rows.jsonl"}


def test_wrong_config(echoes: Echoes, tmp_path: Path, config_file: Path) -> None:
    """A config with a mistake ends it with 2 as well."""
    config_file.write_text("fallback: somebody")
    assert "fallback" in wrong_usage(write_rows(tmp_path, *small("a")))


# Taken up again


def test_again(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """A batch that is complete asks nothing, and leaves the output as it is."""
    arguments = (write_rows(tmp_path, *small("a", "b")), "-o", str(output))
    batch(*arguments)
    before = output.read_bytes()
    asked(echoes)
    result = batch(*arguments)
    assert asked(echoes) == []
    assert output.read_bytes() == before
    assert "2 rows: 0 answered, 0 failed, 2 skipped as done" in result.stderr


def test_failed_rows_again(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """What failed is asked again, and its answer stands where its error did."""

    async def act(model: str, prompt: str) -> str:
        if prompt == "b":
            raise llm.ModelError("out of order")
        return prompt

    arguments = (write_rows(tmp_path, *small("a", "b", "c"), "oops"), "-o", str(output))
    echoes.act, before = act, echoes.act
    batch(*arguments, code=1)
    assert asked(echoes) == ["a", "b", "c"]
    echoes.act = before
    batch(*arguments, code=1)
    assert asked(echoes) == ["b"]
    assert responses(output.read_text())[:3] == ["a", "b", "c"]
    write_rows(tmp_path, *small("a", "b", "c", "d"))
    batch(*arguments)
    assert asked(echoes) == ["d"]
    assert responses(output.read_text()) == ["a", "b", "c", "d"]


def test_failed_rows_again_unordered(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """Unordered, each row still has one line in the end."""
    rows = small(*"abcdef")
    arguments = (write_rows(tmp_path, rows[0], "oops", *rows[1:]), "-o", str(output), "--unordered")
    batch(*arguments, code=1)
    write_rows(tmp_path, rows[0], {"prompt": "new", "complexity": 2}, *rows[1:])
    asked(echoes)
    batch(*arguments)
    assert asked(echoes) == ["new"]
    assert sorted(responses(output.read_text())) == [*"abcdef", "new"]


def test_lost_output(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """An output that is gone is written again from the journal, without asking."""
    arguments = (write_rows(tmp_path, *small("a", "b")), "-o", str(output))
    batch(*arguments)
    asked(echoes)
    output.unlink()
    batch(*arguments)
    assert (asked(echoes), responses(output.read_text())) == ([], ["a", "b"])


def test_edited_rows(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """A row that was edited is asked again, whether it has an id or not."""
    rows = [*small("a", "b"), {"id": "x", "prompt": "c", "complexity": 2}]
    arguments = (write_rows(tmp_path, *rows), "-o", str(output))
    batch(*arguments)
    asked(echoes)
    write_rows(tmp_path, rows[0], rows[1] | {"prompt": "B"}, rows[2] | {"prompt": "C"})
    batch(*arguments)
    assert asked(echoes) == ["B", "C"]
    assert responses(output.read_text()) == ["a", "B", "C"]


@pytest.mark.parametrize("change", ["prompts", "settings"])
def test_other_input(echoes: Echoes, tmp_path: Path, output: Path, change: str) -> None:
    """An output with answers to other prompts, or other settings, is left alone."""
    name = write_rows(tmp_path, *small("a", "b"))
    batch(name, "-o", str(output))
    before = output.read_bytes()
    given = ("-s", "Be brief") if change == "settings" else ()
    if change == "prompts":
        write_rows(tmp_path, *small("c", "d"))
    error = wrong_usage(name, "-o", str(output), *given)
    assert "holds answers to other prompts" in error
    assert "--restart" in error
    assert output.read_bytes() == before
    asked(echoes)
    batch(name, "-o", str(output), *given, "--restart")
    assert len(asked(echoes)) == 2


def test_restart(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """Begun anew, everything is asked again."""
    arguments = (write_rows(tmp_path, *small("a")), "-o", str(output))
    for _ in range(2):
        batch(*arguments, "--restart")
        assert asked(echoes) == ["a"]
        assert responses(output.read_text()) == ["a"]


# A real model


@pytest.mark.usefixtures("tiny_tiers")
def test_mlx(tmp_path: Path, output: Path) -> None:
    """Local models answer in a batch as they answer by themselves, and all is logged."""
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
