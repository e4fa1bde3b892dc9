"""Whatever is asked, and however: a replay decides as the request itself did."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml

from tests import gemini
from tests.cli.commands import invoke, run_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from tests.toys import Toys

RULES = [
    {"name": "secrets", "secrets": True, "place": "here"},
    {"name": "notes", "fragments": "*notes*", "tier": "medium"},
    {"name": "pictures", "attachments": "image", "complexity": 6},
    {"name": "tools", "tools": "clock", "complexity": 5},
    {"name": "shapes", "schema": True, "complexity": 7},
    {"name": "pirates", "system": "pirate", "complexity": 2},
    {"name": "never", "words": "internal", "forbid": "cloud"},
    {"name": "long", "length": "400+", "complexity": 8},
]
HARD = "Prove that there are infinitely many primes congruent to 3 mod 4, and why."
CLOCK = "def clock():\n    return 'Six.'"
PIXEL = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@pytest.fixture
def asked(
    toys: Toys, logged: Callable[[], Any], httpx_mock: HTTPXMock, tmp_path: Path
) -> Callable[[], dict[str, str]]:
    """Log requests of all kinds; return the ids of new turns, oldest first, with their tiers."""
    httpx_mock.add_response(
        url=gemini.URL, content=gemini.body(*gemini.says("Hello")), is_reusable=True
    )
    toys.small.tools = toys.medium.tools = toys.small.schemas = toys.medium.schemas = True
    toys.small.does = toys.medium.does = ['{"a": 1}']

    def ask() -> dict[str, str]:
        earlier = {turn["id"] for turn in logged()}
        notes, picture = tmp_path / "notes.txt", tmp_path / "pixel.png"
        notes.write_text("Notes on clefs.", "utf-8")
        picture.write_bytes(PIXEL)
        for words in (
            ["Spell it"],
            ["Spell it", "-o", "complexity", "9"],
            ["Spell it", "-o", "tier", "medium"],
            ["A clef", "-o", "task", "theory_analysis"],
            ["A clef", "-o", "local_only", "1", "-o", "complexity", "9"],
            [HARD],
            [HARD, "-f", str(notes)],
            [HARD, "-s", "Talk like a pirate"],
            ["Name one", "--schema", "a int"],
            ["My IBAN is DE89 3704 0044 0532 0130 00", "-o", "tier", "cloud"],
            ["-c", "And now?"],
            ["The internal report " * 30],
            ["-c", "Go on", "-o", "complexity", "10"],
            ["-c", "And now?", "-s", "Be brief"],
            ["What time is it?", "--functions", CLOCK],
        ):
            invoke("-m", "tiered", "--no-stream", *words)
        conversation = llm.get_model("tiered").conversation()
        for prompt in (HARD, "Why?", "Go on", "Spell it", "Spell 'its'", "Spell 'it'"):
            conversation.prompt(prompt).text()
        if not toys.keys.get("local_only"):
            invoke("-m", "tiered", "See", "-a", str(picture), "-o", "complexity", "9")
        return {
            turn["id"]: json.loads(turn["response_json"])["tiered"]["tier"]
            for turn in logged()
            if turn["id"] not in earlier
        }

    return ask


@pytest.mark.httpx_mock(assert_all_responses_were_requested=False)
@pytest.mark.parametrize(
    "settings",
    [
        {"rules": RULES},
        {"rollout": {"small": "50%", "medium": "50%"}},
        {"estimate": False, "default_complexity": 6, "local_only": True},
    ],
    ids=",".join,
)
def test_present_settings_move_nothing(
    toys: Toys, asked: Callable[[], dict[str, str]], settings: dict[str, Any]
) -> None:
    """With the settings that requests were made with, all of them stay where they went."""
    toys.configure(**settings)
    tiers = asked()
    report = run_json("replay")
    assert [example for move in report["moves"] for example in move["examples"]] == []
    assert (report["requests"], report["not_replayed"]) == (len(tiers), [])


@pytest.mark.httpx_mock(assert_all_responses_were_requested=False)
def test_other_settings_decide_as_new_requests_would(
    toys: Toys, asked: Callable[[], dict[str, str]], tmp_path: Path
) -> None:
    """Replayed with other settings, requests go where they go when they are made with these."""
    tiers = asked()
    other, moves = tmp_path / "other.yaml", tmp_path / "moves.jsonl"
    changes = {"rules": RULES, "default_complexity": 3, "rollout": {"medium": "40%"}}
    other.write_text(yaml.safe_dump(toys.keys | changes), "utf-8")
    report = run_json("replay", "--config", str(other), "--moves", str(moves))
    lines = [json.loads(line) for line in moves.read_text("utf-8").splitlines()]
    assert len(lines) == report["moved"] > 3
    replayed = tiers | {line["id"]: line["to"] for line in lines}
    toys.configure(**changes)
    assert [*replayed.values()] == [*asked().values()]


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


@pytest.mark.usefixtures("logged")
def test_tool_loops(toys: Toys) -> None:
    """A loop stays on its tier, and where its model was stuck, another tier takes over again."""
    toys.small.tools = toys.medium.tools = True
    toys.small.does = [llm.ToolCall("double", {"number": 2}, tool_call_id="c-1")]
    model = llm.get_model("tiered")
    for options in ({"complexity": 2}, {"tier": "small"}):
        chain = model.conversation().chain("2 * 2?", tools=[double], options=options, chain_limit=4)
        with contextlib.suppress(ValueError):
            chain.text()
    report = run_json("replay")
    assert (report["moved"], report["not_replayed"]) == (0, [])
    assert report["requests"] == 7
    without = run_json("replay", "--set", "escalate_stuck=false")
    assert [(each["from"], each["to"], each["requests"]) for each in without["moves"]] == [
        ("medium", "small", 1)
    ]
