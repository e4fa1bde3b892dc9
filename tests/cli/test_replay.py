"""`llm tiered replay`: what other settings would have done with the requests in the log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from llm_tiered.log import feedback, replays
from llm_tiered.paths import replays_path
from tests.cli.commands import configure, refused, run, run_json, tier
from tests.make_log import MODELS
from tests.replay.logs import EASY, HARD, add_request, said

if TYPE_CHECKING:
    from pathlib import Path

FLASH = "gemini/gemini-2.5-flash"
WIDER = ("--set", "tiers.medium.complexity=4-8")


@pytest.fixture
def filled(log: Path) -> Path:
    """Four requests, the first of which is marked, and one without a record."""
    configure(
        *(
            tier(name, each, MODELS[name])
            for name, each in {"small": "1-4", "medium": "5-7"}.items()
        ),
        tier("cloud", "8-10", FLASH),
    )
    add_request(log, "1-small", EASY, **said("small", 4))
    add_request(log, "2-medium", EASY, **said("medium", 5))
    add_request(log, "3-cloud", HARD, **said("cloud", 8), model=FLASH)
    add_request(log, "4-cloud", EASY, **said("cloud", 9), model=FLASH)
    add_request(log, "5-bare", record={"tier": None})
    feedback.set_mark("1-small", "up")
    return log


@pytest.mark.usefixtures("filled")
def test_report() -> None:
    """It shows the tiers, the moves with costs and quality, examples, and what is left out."""
    output = run("replay", *WIDER).stdout
    assert [" ".join(line.split()) for line in output.splitlines() if line] == [
        "4 requests to tiered, 2026-11-22 to 2026-11-22, with --set tiers.medium.complexity=4-8",
        "2 (50.0%) would go elsewhere",
        "tier complexity requests then cost then",
        "small 1-3 1 (25.0%) 0 (0.0%) $0 $0",
        "medium 4-8 1 (25.0%) 3 (75.0%) $0 $0",
        "cloud 9-10 2 (50.0%) 1 (25.0%) $0.0011 $0.00055",
        "all 4 $0.0011 $0.00055",
        "moves requests cost then good then",
        "cloud → medium 1 $0.00055 $0 not known not known",
        "small → medium 1 $0 $0 100.0% of 1 (20.7% to 100.0%) not known",
        "for example cloud → medium",
        f'3-cloud "{HARD[:49]}…"',
        "complexity 8, and medium covers 4-8",
        "for example small → medium",
        f'1-small "{EASY}"',
        "complexity 4, and medium covers 4-8",
        "the models that they move to have answered 1 prompt of these before",
        "not replayed: 1 request: the log has no record of how it was routed",
    ]


@pytest.mark.usefixtures("filled")
def test_reproducible() -> None:
    """The same log and settings give the same output, whatever is asked in between."""
    first = run("replay", *WIDER, "--json").stdout
    run("replay", "--set", "local_only=true")
    assert run("replay", *WIDER, "--json").stdout == first


@pytest.mark.usefixtures("filled")
def test_json_holds_no_prompts() -> None:
    """Neither the JSON nor the report that is kept has any text of a prompt."""
    text = run("replay", *WIDER, "--json").stdout
    assert EASY not in text
    assert HARD not in text
    assert "3-cloud" in text
    kept = replays_path().read_bytes()
    assert HARD.encode() not in kept
    assert b"3-cloud" in kept
    assert replays_path().stat().st_mode & 0o077 == 0


def test_kept_report(filled: Path) -> None:
    """The report that is kept is the one that was printed."""
    report = run_json("replay", *WIDER)
    [saved] = replays.saved_replays(filled)
    assert saved.report == report
    assert saved.report["settings"]["changes"] == ["tiers.medium.complexity=4-8"]


@pytest.mark.usefixtures("filled")
def test_a_report_that_can_not_be_kept(user_path: Path) -> None:
    """It is printed all the same, with a note."""
    replays_path().mkdir()
    result = run("replay", *WIDER)
    assert "2 (50.0%) would go elsewhere" in result.stdout
    assert result.stderr.startswith("the report is not kept for the dashboard: ")
    assert user_path.exists()


@pytest.mark.usefixtures("filled")
def test_moves(tmp_path: Path) -> None:
    """Every request that moves is a line of the file, with its id, both tiers and the reason."""
    moves = tmp_path / "moves.jsonl"
    run("replay", *WIDER, "--moves", str(moves))
    lines = [json.loads(line) for line in moves.read_text("utf-8").splitlines()]
    assert [(line["id"], line["from"], line["to"]) for line in lines] == [
        ("1-small", "small", "medium"),
        ("3-cloud", "cloud", "medium"),
    ]
    assert lines[0]["reason"] == "complexity 4, and medium covers 4-8"
    assert "there is no folder" in refused("replay", "--moves", str(tmp_path / "no" / "x"))


@pytest.mark.usefixtures("filled")
def test_settings_without_influence_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which changes are not replayed, and which variables apply to both."""
    monkeypatch.setenv("COMPLEXITY_SMALL", "3")
    output = run("replay", "--set", "cache=true", "--set", "tiers.small.escalate=true").stdout
    assert "because it has no influence on the decision: cache, escalate" in output
    assert "the environment applies, too: COMPLEXITY_SMALL" in output


@pytest.mark.usefixtures("filled")
def test_nothing_to_replay() -> None:
    """A period without requests, and one in which all stay."""
    empty = run("replay", "--until", "2020-01-01").stdout
    assert empty == "no requests to tiered that can be replayed in this period\n"
    assert "all of them would go where they went" in run("replay").stdout


def test_mistakes(user_path: Path, tmp_path: Path) -> None:
    """A missing log, a config that can't be read, and a file that is no log, each in one line."""
    assert refused("replay").startswith("there is no log yet")
    other = tmp_path / "other.yaml"
    other.write_text("tiers: [", "utf-8")
    assert refused("replay", "--config", str(other)).startswith(f"{other}: ")
    (user_path / "logs.db").write_bytes(b"")
    assert "is not an llm log" in refused("replay")
