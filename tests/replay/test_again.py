"""Conversations in order, and requests that can't be replayed."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pluggy
import pytest

from llm_tiered import hooks
from llm_tiered.estimator import Estimate
from llm_tiered.replay import again, past_request
from tests.cli.commands import configure, refused, run_json
from tests.dashboard.texts import add_messages, message
from tests.make_log import END, YEAR, add, turn
from tests.replay.logs import EASY, HARD, add_request, said

if TYPE_CHECKING:
    from pathlib import Path

PRO = "gemini/gemini-2.5-pro"
WIDER = ("--set", "tiers.medium.complexity=4-8")


def moves(report: Any) -> dict[str, tuple[str, str]]:
    """The requests that move, with the tiers before and after."""
    return {
        example["id"]: (example["from"], example["to"])
        for move in report["moves"]
        for example in move["examples"]
    }


def left_out(report: Any) -> dict[str, int]:
    """The reasons why requests can't be replayed."""
    return {each["reason"]: each["requests"] for each in report["not_replayed"]}


def test_conversations_follow_their_first_turn(log: Path) -> None:
    """A turn that says nothing goes where its conversation would have been by then."""
    add_request(log, "1", thread="a", **said("cloud", 8))
    add_request(log, "2", thread="a", tier="cloud", complexity=8, source="conversation")
    add_request(log, "3", thread="a", **said("cloud", 9))
    add_request(log, "4", thread="a", tier="cloud", complexity=9, source="conversation")
    add_request(log, "5", thread="b", **said("small", 2))
    add_request(log, "6", thread="b", tier="small", complexity=2, source="conversation")
    found = moves(run_json("replay", *WIDER))
    assert found == {"1": ("cloud", "medium"), "2": ("cloud", "medium")}


def test_conversations_that_began_before_the_period(log: Path) -> None:
    """They are replayed from their first turn, which is not counted."""
    add_request(log, "1", thread="a", when=END - YEAR, **said("cloud", 8))
    add_request(log, "2", thread="a", tier="cloud", complexity=8, source="conversation")
    report = run_json("replay", "--since", str((END - YEAR / 2).date()), *WIDER)
    assert (report["requests"], moves(report)) == (1, {"2": ("cloud", "medium")})


def test_turns_of_other_models(log: Path) -> None:
    """They are in no sum, but a conversation that they interrupt begins anew."""
    configure(default_complexity=2, estimate=False)
    add_request(log, "1", thread="a", **said("cloud", 9))
    add(log, [turn(END, id="2") | {"model": "gpt-4o-mini", "response_json": None}])
    with closing(sqlite3.connect(log)) as database, database:
        database.execute("update turns set thread_id = 'a' where id = '2'")
    add_request(log, "3", thread="a", tier="small", complexity=2, source="default")
    report = run_json("replay")
    assert (report["requests"], report["moved"]) == (2, 0)


def test_what_the_present_settings_would_move_too(log: Path) -> None:
    """Requests that move only because something changed since are told apart."""
    add_request(log, "1", tier="medium", complexity=6, source="option", options={"complexity": 2})
    add_request(log, "2", **said("cloud", 8))
    report = run_json("replay", *WIDER)
    assert (report["moved"], report["moved_with_present_settings"]) == (2, 1)
    present = run_json("replay")
    assert moves(present) == {"1": ("medium", "small")}
    assert present["moved_with_present_settings"] is None


def test_another_model_of_the_same_tier(log: Path) -> None:
    """Such a request goes elsewhere, too; another name for the same model changes nothing."""
    add_request(log, "1", **said("small", 2))
    assert run_json("replay", "--set", "tiers.small.model=phi")["moved"] == 0
    [move] = run_json("replay", "--set", "tiers.small.model=qwen")["moves"]
    assert (move["from"], move["to"], move["requests"]) == ("small", "small", 1)
    assert move["to_model"] == "mlx/Qwen2.5-7B-Instruct-4bit"


def test_what_can_not_be_replayed_is_counted(log: Path) -> None:
    """Each reason has its number, and none of these requests is in a sum."""
    add(log, [turn(END, id="1") | {"response_json": None}])
    add(log, [turn(END, id="2")], table="responses")
    add(log, [turn(END, id="3") | {"datetime_utc": "never"}])
    add_request(log, "4", options={"task": "gone"}, source="task", complexity=5)
    add_request(log, "5", options={"complexity": "eleven"}, source="option")
    add(log, [turn(END, id="6")])
    add_request(log, "7", **said("small", 2))
    report = run_json("replay")
    assert left_out(report) == {
        "an older version of llm logged it": 1,
        "its options in the log are damaged": 1,
        "its time in the log is damaged": 1,
        "it would be refused: unknown task 'gone': known are content_validation, "
        "creative_generation, curriculum_planning, exercise_generation, progression_generation, "
        "theory_analysis, tutorial_generation, voicing_generation": 1,
        "the log has no record of how it was routed": 1,
        "the log no longer has its messages": 1,
    }
    assert report["requests"] == 1


def test_requests_that_depend_on_a_template(log: Path) -> None:
    """Only those are left out for which the name of the template decides."""
    configure(rules=[{"template": "review", "words": "spell", "tier": "cloud"}])
    add_request(log, "1", EASY, complexity=3)
    add_request(log, "2", HARD, tier="cloud", complexity=8)
    add_request(log, "3", EASY, **said("cloud", 9))
    report = run_json("replay")
    why = "it depends on the name of its template, which the log does not keep"
    assert left_out(report) == {why: 1}
    assert report["requests"] == 2


def test_other_plugins_are_asked_only_on_request(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they do when they are asked is unknown; prompts that they need not see are replayed."""
    asked = []

    class Rules:
        @hooks.hookimpl
        def estimate_complexity(self, prompt: Any) -> int:
            asked.append(prompt.prompt or prompt.messages[-1].parts[0].text)
            return 9

    plugins = pluggy.PluginManager(hooks.PROJECT)
    plugins.add_hookspecs(hooks.Specifications)
    plugins.register(Rules(), name="contracts")
    monkeypatch.setattr(hooks, "manager", lambda: plugins)
    add_request(log, "1")
    add_request(log, "2", **said("small", 2))
    report = run_json("replay")
    assert left_out(report) == {"contracts may estimate it, which only --ask-plugins asks": 1}
    assert (report["requests"], asked) == (1, [])
    report = run_json("replay", "--ask-plugins")
    assert moves(report) == {"1": ("small", "cloud")}
    assert asked == [EASY]


@pytest.mark.parametrize(("minutes", "tier"), [(1, "cloud"), (60, "flash")])
def test_what_leaving_a_tier_costs(
    log: Path, monkeypatch: pytest.MonkeyPatch, minutes: int, tier: str
) -> None:
    """A conversation stays where its prompt is cached, by the times in the log, not by today's."""
    configure(
        {"name": "flash", "complexity": "1-7", "model": "gemini/gemini-2.5-flash"},
        {"name": "cloud", "complexity": "8-10", "model": "gemini/gemini-2.5-pro"},
    )
    monkeypatch.setattr(
        past_request,
        "estimate_of",
        lambda prompt, **_: Estimate(0.5, 9 if len(prompt.messages) == 1 else 6, 1.0, ()),
    )
    add_request(log, "1", HARD, tier="cloud", complexity=9, thread="a", model=PRO)
    model = {"cloud": PRO, "flash": "gemini/gemini-2.5-flash"}[tier]
    later = END + timedelta(minutes=minutes)
    add_request(log, "2", EASY, tier=tier, complexity=6, thread="a", when=later, model=model)
    chain = [message("user", HARD), message("assistant", "Well. " * 80_000), message("user", EASY)]
    add_messages(log, "2", chain, [message("assistant", "So.")])
    assert run_json("replay")["moved"] == 0


def test_patterns_that_take_too_long(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such requests are counted, and after a few of them the replay ends, not after hours."""
    clock = itertools.count()
    monkeypatch.setattr(again, "process_time", lambda: next(clock))
    monkeypatch.setattr(again, "MOST_SLOW", 3)
    configure(rules=[{"regex": "(a+)+b", "tier": "cloud"}])
    for number in range(2):
        add_request(log, str(number))
    report = run_json("replay")
    assert left_out(report) == {"a regex of the rules takes too long on it": 2}
    add_request(log, "2")
    assert refused("replay").startswith("for 3 requests a regex of the rules took longer than")
