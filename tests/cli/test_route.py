from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.mlx.engine.engine import ENGINE
from tests.cli.commands import (
    CLOUD,
    EMBEDDED,
    configure,
    cut_short,
    invoke,
    prompt,
    refused,
    run,
    run_json,
    tier,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hub_server import HubServer

MODELS = {
    "small": "mlx/Phi-3.5-mini-instruct-4bit",
    "medium": "mlx/Qwen2.5-7B-Instruct-4bit",
    "cloud": CLOUD,
    "embedded": EMBEDDED,
}
CHAINS = {
    "small": ["small", "medium", "cloud", "embedded"],
    "medium": ["medium", "small", "cloud", "embedded"],
    "cloud": ["cloud", "medium", "small", "embedded"],
}
COMPLEXITIES = [*zip(range(1, 11), ["small"] * 4 + ["medium"] * 3 + ["cloud"] * 3, strict=True)]
EDGES = [COMPLEXITIES[number - 1] for number in (1, 4, 5, 7, 8, 10)]
TASKS = [
    ("exercise_generation", 4, "small"),
    ("progression_generation", 4, "small"),
    ("content_validation", 3, "small"),
    ("theory_analysis", 5, "medium"),
    ("voicing_generation", 5, "medium"),
    ("creative_generation", 6, "medium"),
    ("tutorial_generation", 7, "medium"),
    ("curriculum_planning", 8, "cloud"),
]
KEY = "a-key-that-stays-secret"
SCHEMA = '{"type": "object", "properties": {"name": {"type": "string"}}}'


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbid looking up models that are not on disk."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def route(*args: str) -> dict[str, Any]:
    """The output of `route --json` for a prompt."""
    facts: dict[str, Any] = run_json("route", "Hello", *args)
    return facts


def option(name: str, value: object) -> tuple[str, str, str]:
    """The arguments for an option of `tiered`."""
    return "-o", name, str(value)


def tiers(facts: dict[str, Any]) -> list[str]:
    """The tiers of the chain in their order."""
    return [step["tier"] for step in facts["chain"]]


def outcomes(facts: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Outcome and reason of each tier in the chain."""
    return {step["tier"]: (step["outcome"], step["reason"]) for step in facts["chain"]}


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(("complexity", "name"), COMPLEXITIES)
def test_each_complexity_has_its_tier(complexity: int, name: str) -> None:
    """Each complexity goes to the tier that covers it, and the others follow in order."""
    facts = route(*option("complexity", complexity))
    assert (facts["tier"], facts["model"]) == (name, MODELS[name])
    assert (facts["complexity"], facts["source"], facts["task"]) == (complexity, "option", None)
    assert [(step["tier"], step["model"]) for step in facts["chain"]] == [
        (name, MODELS[name]) for name in CHAINS[name]
    ]


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(("task", "complexity", "name"), TASKS)
def test_each_task_has_its_complexity(task: str, complexity: int, name: str) -> None:
    """Each default task goes to the tier of its complexity."""
    facts = route(*option("task", task))
    assert (facts["tier"], facts["complexity"]) == (name, complexity)
    assert (facts["source"], facts["task"]) == ("task", task)


@pytest.mark.usefixtures("offline")
def test_no_complexity_uses_the_default() -> None:
    """Without options and estimates, default_complexity decides."""
    configure(estimate=False, default_complexity=2)
    facts = route()
    assert (facts["tier"], facts["complexity"], facts["source"]) == ("small", 2, "default")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(("complexity", "name"), EDGES)
def test_force_local_keeps_everything_here(
    complexity: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With FORCE_LOCAL_LLM=true the largest local tier replaces the cloud."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", "true")
    facts = route(*option("complexity", complexity))
    assert facts["tier"] == ("medium" if name == "cloud" else name)
    assert tiers(facts) == [name for name in CHAINS[facts["tier"]] if name != "cloud"]


@pytest.mark.parametrize(("complexity", "name"), EDGES)
def test_force_local_false_sends_everything_to_the_cloud(
    complexity: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With FORCE_LOCAL_LLM=false everything goes to the cloud, whatever the complexity."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", "false")
    facts = route(*option("complexity", complexity))
    assert (facts["tier"], facts["model"]) == ("cloud", CLOUD)
    assert tiers(facts) == ["cloud"]
    assert ("FORCE_LOCAL_LLM=false" in facts["reason"]) == (name != "cloud")


@pytest.mark.usefixtures("offline")
def test_a_threshold_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """COMPLEXITY_SMALL sets the upper limit of the small tier."""
    monkeypatch.setenv("COMPLEXITY_SMALL", "2")
    assert route(*option("complexity", 3))["tier"] == "medium"


@pytest.mark.usefixtures("tiny_tiers")
def test_the_tier_wins_over_complexity_and_that_over_the_task() -> None:
    """A tier overrides a complexity, and a complexity overrides a task."""
    task = option("task", "curriculum_planning")
    assert route(*task, *option("complexity", 6))["tier"] == "medium"
    facts = route(*task, *option("complexity", 6), *option("tier", "small"))
    assert (facts["tier"], facts["source"]) == ("small", "tier")


@pytest.mark.usefixtures("tiny_tiers", "embedded_model")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("fallback", "local"), ["cloud", "medium", "small", "embedded"]),
        (("fallback", "none"), ["cloud"]),
        (("local_only", "true"), ["medium", "small", "embedded"]),
    ],
)
def test_the_request_can_shorten_the_chain(options: tuple[str, str], expected: list[str]) -> None:
    """`fallback` and `local_only` of the request restrict the chain."""
    assert tiers(route(*option("complexity", 9), *option(*options))) == expected


@pytest.mark.usefixtures("tiny_tiers", "embedded_model")
def test_json_has_exactly_these_keys() -> None:
    """The JSON has the keys that programs depend on, also in the chain."""
    facts = route()
    assert set(facts) == {"tier", "model", "complexity", "source", "task", "reason", "chain"}
    assert facts["chain"]
    for step in facts["chain"]:
        assert set(step) == {"tier", "model", "place", "outcome", "reason"}


@pytest.mark.usefixtures("tiny_tiers", "embedded_model")
def test_ready_and_skipped() -> None:
    """A model on disk is ready; the cloud without a key is skipped with the reason."""
    chain = outcomes(route())
    assert chain["medium"] == chain["small"] == chain["embedded"] == ("ready", None)
    outcome, reason = chain["cloud"]
    assert outcome == "skipped"
    assert "no key" in str(reason)
    assert "llm keys set gemini" in str(reason)


@pytest.mark.usefixtures("tiny_tiers", "embedded_model")
def test_text_output() -> None:
    """Without --json the decision is one line and the chain is a table."""
    first, header, *rows = run("route", "Hello", *option("complexity", 3)).stdout.splitlines()
    assert first == "small: complexity 3, and small covers 1-4"
    assert header.split() == ["tier", "model", "place", "why"]
    assert [row.split()[:4] for row in rows] == [
        ["small", "mlx/tiny", "here", "ready"],
        ["medium", "mlx/larger", "here", "ready"],
        ["cloud", CLOUD, "cloud", "skipped"],
        ["embedded", EMBEDDED, "here", "ready"],
    ]
    assert "no key" in rows[2]


@pytest.mark.usefixtures("tiny_tiers")
def test_a_key_makes_the_cloud_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is accepted from the command and the environment, and never shown."""
    assert outcomes(route("--key", KEY))["cloud"] == ("ready", None)
    monkeypatch.setenv("LLM_GEMINI_KEY", KEY)
    assert outcomes(route())["cloud"] == ("ready", None)
    assert KEY not in run("route", "Hello", "--key", KEY).output


@pytest.mark.usefixtures("tiny_tiers")
@pytest.mark.parametrize("schema", [SCHEMA, "name, age int", "{folder}/schema.json"])
def test_a_schema_skips_no_model(tmp_path: Path, schema: str) -> None:
    """Local models and the cloud accept schemas: JSON, the concise form, or a file."""
    (tmp_path / "schema.json").write_text(SCHEMA)
    schema = schema.replace("{folder}", str(tmp_path))
    chain = outcomes(route("--schema", schema, "--key", KEY))
    assert chain["medium"] == ("ready", None)
    assert chain["cloud"] == ("ready", None)


@pytest.mark.usefixtures("tiny_tiers")
def test_a_model_without_attachments_is_skipped(tmp_path: Path) -> None:
    """An attachment skips only the models that can't read it."""
    image = tmp_path / "image.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n")
    chain = outcomes(route("-a", str(image), "--key", KEY))
    assert chain["medium"] == ("skipped", "can't read attachments")
    assert chain["cloud"] == ("ready", None)


DOUBLE = "def double(number: int) -> int:\n    return 2 * number"


@pytest.mark.usefixtures("tiny_tiers")
@pytest.mark.parametrize("given", [["-T", "llm_time"], ["--functions", DOUBLE]])
def test_tools_skip_models_without_them(tiny: Path, given: list[str]) -> None:
    """Tools of plugins and functions skip only the models that can't call tools."""
    assert outcomes(route(*given, "--key", KEY))["medium"] == ("ready", None)
    (tiny / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((tiny / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{{ messages[-1].content }}"
    (tiny / "tokenizer_config.json").write_text(json.dumps(settings))
    chain = outcomes(route(*given, "--key", KEY))
    assert chain["medium"] == ("skipped", "can't do tools")
    assert chain["cloud"] == ("ready", None)


@pytest.mark.usefixtures("tiny_tiers")
def test_tools_of_the_service() -> None:
    """A tool that Google runs itself skips all models but Gemini."""
    chain = outcomes(route("-T", "GoogleSearch", "--key", KEY))
    assert chain["medium"] == ("skipped", "has no server-side tool GoogleSearch")
    assert chain["cloud"] == ("ready", None)


def test_an_unknown_tool_is_reported() -> None:
    """A tool that nobody has is an error with the known ones."""
    assert "Tool(s) nosuch not found" in run("route", "Hello", "-T", "nosuch", code=1).stderr


def test_a_damaged_model_is_skipped(tiny: Path, tiny_tiers: Path) -> None:
    """A model with truncated weights is skipped."""
    cut_short(tiny)
    outcome, reason = outcomes(route())["medium"]
    assert outcome == "skipped"
    assert "damaged" in str(reason)


def test_says_that_a_model_has_to_be_downloaded(server: HubServer) -> None:
    """A model on the hub is ready, with a note on the download, and is not downloaded yet."""
    configure(
        tier("all", "1-10", "mlx/remote"), models=[{"id": "mlx/remote", "repo": "tiny/model"}]
    )
    assert outcomes(route())["all"] == ("ready", "has to be downloaded first")
    assert {request.path for request in server.requests} == {"/api/models/tiny/model"}


def test_says_that_a_model_can_not_be_downloaded(server: HubServer) -> None:
    """A model that is not on disk and can't be downloaded is skipped."""
    server.status = 500
    configure(
        tier("all", "1-10", "mlx/remote"), models=[{"id": "mlx/remote", "repo": "tiny/model"}]
    )
    outcome, reason = outcomes(route())["all"]
    assert outcome == "skipped"
    assert str(reason).startswith("not downloaded, and ")


@pytest.mark.usefixtures("tiny_tiers")
def test_stored_options_count() -> None:
    """Stored options apply, and the options of the command override them."""
    invoke("models", "options", "set", "tiered", "complexity", "9")
    assert route()["tier"] == "cloud"
    assert route(*option("complexity", 1))["tier"] == "small"


@pytest.mark.usefixtures("tiny_tiers")
def test_the_first_ready_model_answers() -> None:
    """The first ready model of the chain is the one that answers."""
    prompt("-m", "tiered", *option("complexity", 3), "Hello")
    with closing(sqlite3.connect(llm.user_dir() / "logs.db")) as database:
        [[answered]] = database.execute("select resolved_model from turns")
    assert answered == route(*option("complexity", 3))["chain"][0]["model"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("complexity", "0", "Must be a whole number from 1 to 10"),
        ("complexity", "11", "Must be a whole number from 1 to 10"),
        ("complexity", "hard", "Must be a whole number from 1 to 10"),
        ("complexty", "3", "did you mean complexity?"),
        ("fallback", "maybe", "'any', 'local' or 'none'"),
        ("temperature", "3", "less than or equal to 2"),
    ],
)
def test_a_wrong_option_is_reported(name: str, value: str, message: str) -> None:
    """An option that `tiered` does not accept is an error with its name and the reason."""
    error = refused("route", "Hello", *option(name, value))
    assert error.startswith(f"wrong options: {name}: ")
    assert message in error


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tier", "smal", "unknown tier 'smal': did you mean small?"),
        ("tier", "xyz", "unknown tier 'xyz': known are small, medium, cloud, embedded"),
        ("task", "theory_analyses", "unknown task 'theory_analyses': did you mean"),
        ("task", "xyz", "unknown task 'xyz': known are content_validation, "),
    ],
)
def test_an_unknown_name_is_reported(name: str, value: str, message: str) -> None:
    """An unknown tier or task is an error with the nearest names, or with all of them."""
    assert refused("route", "Hello", *option(name, value)).startswith(message)


@pytest.mark.parametrize("schema", ["name text", "[1, 2]", "5"])
def test_a_wrong_schema_is_reported(schema: str) -> None:
    """A text that is neither a JSON Schema nor llm's concise form is an error of one line."""
    assert "schema" in refused("route", "Hello", "--schema", schema).lower()


def test_an_attachment_that_is_not_there_is_reported(tmp_path: Path) -> None:
    """An attachment that does not exist is named in the error."""
    result = run("route", "Hello", "-a", str(tmp_path / "nothing.png"), code=2)
    assert "nothing.png' does not exist" in result.stderr


def test_a_rollback_without_a_cloud_is_reported(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORCE_LOCAL_LLM=false without a cloud tier is an error of one line."""
    configure(tier("all", "1-10", "mlx/tiny"), models=[{"id": "mlx/tiny", "path": str(tiny)}])
    monkeypatch.setenv("FORCE_LOCAL_LLM", "false")
    assert "but there is no cloud tier" in refused("route", "Hello")


def test_calls_no_model(
    user_path: Path,
    tiny_tiers: Path,
    connections: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command loads no model, makes no connection and writes nothing."""
    monkeypatch.setenv("LLM_GEMINI_KEY", KEY)
    before = sorted(user_path.rglob("*"))
    facts = route(*option("complexity", 9))
    assert outcomes(facts)["cloud"] == outcomes(facts)["small"] == ("ready", None)
    assert ENGINE.resident() == {}
    assert connections == []
    assert sorted(user_path.rglob("*")) == before
