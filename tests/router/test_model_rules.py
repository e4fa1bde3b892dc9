"""Rules of the config, through llm: where a prompt goes, and what never leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm
import pytest
from click.testing import CliRunner
from llm.cli import cli
from llm.utils import Fragment

from llm_tiered.router.request import TieredRequest
from tests import gemini
from tests.cli.commands import invoke

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys

IBAN = "DE89 3704 0044 0532 0130 00"
SECRETS = {"name": "secrets", "secrets": True, "place": "here"}


def record(response: Any) -> dict[str, Any]:
    """What is recorded of a response."""
    facts: dict[str, Any] = response.response_json["tiered"]
    return facts


def where(response: Any) -> tuple[str, str, list[str]]:
    """The recorded tier and source, and the rules that had a say."""
    facts = record(response)
    return facts["tier"], facts["source"], facts.get("rules", [])


async def test_a_rule_decides(ask: Ask, toys: Toys) -> None:
    """A complexity, a task or a tier by a rule comes before the estimate."""
    toys.configure(
        rules=[
            {"name": "easy", "words": "spell", "complexity": 1},
            {"words": "tritone", "task": "theory_analysis"},
            {"name": "named", "regex": "CASE-\\d", "tier": "small"},
        ]
    )
    assert where(await ask("Spell it")) == ("small", "rule", ["easy"])
    assert where(await ask("Prove CASE-1 now")) == ("small", "rule", ["named"])
    response = await ask("A tritone")
    assert where(response) == ("medium", "rule", ["rule 2"])
    assert (record(response)["task"], record(response)["complexity"]) == ("theory_analysis", 5)


async def test_the_request_comes_first(ask: Ask, toys: Toys) -> None:
    """What the request says of itself counts before a rule that chooses."""
    toys.configure(rules=[{"complexity": 1}])
    assert where(await ask("Hello", complexity=6)) == ("medium", "option", [])
    assert where(await ask("Hello", task="theory_analysis")) == ("medium", "task", [])
    assert where(await ask("Hello", tier="medium")) == ("medium", "tier", [])


async def test_without_rules_nothing_is_recorded(ask: Ask, toys: Toys) -> None:
    """The record of a request that no rule had a say in is as it was."""
    toys.configure(rules=[{"words": "invoice", "complexity": 1}])
    assert "rules" not in record(await ask("Hello", complexity=1))
    assert "rules" not in record(await ask("An invoice", complexity=1))


@pytest.mark.parametrize(
    "said", [{"tier": "cloud"}, {"complexity": 9}, {"fallback": "any"}], ids=str
)
async def test_what_must_stay_here_stays(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, connections: list[Any], said: dict[str, Any]
) -> None:
    """Whatever the request says, and even if all local models fail."""
    toys.configure(rules=[{"words": "pay", "tier": "cloud"}, SECRETS])
    response = await ask(f"Pay to {IBAN}", **said)
    assert where(response)[0] == "medium"
    assert "secrets" in where(response)[2]
    toys.medium.does = toys.small.does = [RuntimeError("it broke")]
    with pytest.raises(llm.ModelError) as error:
        await ask(f"Pay to {IBAN}", **said)
    assert gemini.MODEL not in str(error.value)
    assert not httpx_mock.get_requests()
    assert connections == []


async def test_it_stays_on_rollback(
    ask: Ask, toys: Toys, connections: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORCE_LOCAL_LLM=false sends everything to the cloud, but not what a rule keeps from it."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", "false")
    toys.configure(rules=[SECRETS, {"words": "diary", "forbid": "cloud"}])
    assert where(await ask(f"Pay to {IBAN}", complexity=9))[0] == "medium"
    assert where(await ask("My diary", complexity=1))[0] == "small"
    assert connections == []


async def test_local_only_wins(ask: Ask, toys: Toys, connections: list[Any]) -> None:
    """A rule that names the cloud does not send away what must stay for another reason."""
    toys.configure(rules=[{"tier": "cloud"}])
    response = await ask("Hello", local_only=True)
    assert where(response) == ("medium", "rule", ["rule 1"])
    toys.configure(local_only=True)
    assert where(await ask("Hello"))[0] == "medium"
    assert connections == []


async def test_what_is_sent_along_counts(ask: Ask, toys: Toys, connections: list[Any]) -> None:
    """The system prompt and a history that a program hands over are sent along."""
    toys.configure(rules=[SECRETS])
    assert where(await ask("Hello", system=f"Our account is {IBAN}.", tier="cloud"))[0] == "medium"
    history = [llm.user(f"Pay to {IBAN}"), llm.assistant("Done."), llm.user("Thanks")]
    assert where(await ask(None, messages=history, tier="cloud"))[0] == "medium"
    assert connections == []


async def test_results_of_tools_count(ask: Ask, toys: Toys, connections: list[Any]) -> None:
    """What a tool returns stays here, too, within the same loop."""
    toys.configure(rules=[SECRETS, {"words": "account", "complexity": 9}])
    toys.medium.tools = True
    toys.medium.does = [llm.ToolCall(name="account", arguments={}, tool_call_id="1")]
    toys.medium.then = ["medium ", "answer"]

    def account() -> str:
        """The number of the account."""
        return IBAN

    chain = ask.model.chain("Which one?", tools=[account], options={"complexity": 6})
    responses = await ask.finish(chain)
    assert [record(each)["local_only"] for each in responses] == [False, True]
    assert connections == []


async def test_a_conversation_stays_where_a_rule_put_it(ask: Ask, toys: Toys) -> None:
    """A turn for which no rule holds goes on; one for which another rule holds moves."""
    toys.configure(
        rules=[{"words": "chess", "complexity": 6}, {"words": "draughts", "complexity": 1}]
    )
    conversation = ask.model.conversation()
    turns = [await ask(text, to=conversation) for text in ("Chess?", "Go on", "Draughts?", "Go on")]
    assert [where(turn)[:2] for turn in turns] == [
        ("medium", "rule"),
        ("medium", "conversation"),
        ("small", "rule"),
        ("small", "conversation"),
    ]


async def test_a_conversation_that_the_user_placed_does_not_move(ask: Ask, toys: Toys) -> None:
    """A rule that chooses does not undo the tier that an earlier turn named."""
    toys.configure(rules=[{"words": "chess", "complexity": 1}])
    conversation = ask.model.conversation()
    await ask("Hello", to=conversation, complexity=6)
    assert where(await ask("Chess?", to=conversation)) == ("medium", "conversation", [])


async def test_later_turns_stay_here(ask: Ask, toys: Toys, connections: list[Any]) -> None:
    """Once a turn had to stay, later turns stay: they send it along."""
    toys.configure(rules=[SECRETS])
    conversation = ask.model.conversation()
    await ask(f"Pay to {IBAN}", to=conversation)
    assert where(await ask("And now?", to=conversation, tier="cloud"))[0] == "medium"
    toys.configure(rules=[])
    assert where(await ask("And now?", to=conversation, tier="cloud"))[0] == "medium"
    assert connections == []


async def test_what_a_rule_forbids_holds_for_later_turns(ask: Ask, toys: Toys) -> None:
    """A fragment is only named by the turn that brings it, but sent along by later ones."""
    toys.configure(rules=[{"fragments": "*.md", "forbid": "cloud"}])
    conversation = ask.model.conversation()
    notes = Fragment("Notes", "/home/me/notes.md")
    await ask("Read this", to=conversation, fragments=[notes], complexity=1)
    for _ in range(2):
        turn = await ask("And now?", to=conversation, complexity=9)
        assert where(turn) == ("medium", "option", ["rule 1"])


def test_what_a_rule_forbids_holds_for_llm_c(toys: Toys, log: Path, tmp_path: Path) -> None:
    """The log names the rule, also after the turn that it held for first."""
    toys.configure(rules=[{"fragments": "*.md", "forbid": "cloud"}])
    notes = tmp_path / "notes.md"
    notes.write_text("Notes", "utf-8")
    invoke("-m", "tiered", "-o", "complexity", "1", "-f", str(notes), "Read this")
    for _ in range(2):
        answer = invoke("-c", "-o", "complexity", "9", "And now?").stdout.strip()
        assert answer == "medium answer"


async def test_a_forbidden_tier_is_not_asked(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """The next tier up takes its place, or else the next one down, in fallbacks too."""
    toys.configure(
        rules=[{"words": "hard", "forbid": "small"}, {"words": "ours", "forbid": "cloud"}]
    )
    assert where(await ask("hard", tier="small")) == ("medium", "tier", ["rule 1"])
    assert where(await ask("ours", complexity=9)) == ("medium", "option", ["rule 2"])
    toys.medium.does = [RuntimeError("it broke")]
    response = await ask("ours", complexity=6)
    assert record(response)["attempts"][-1]["tier"] == "small"
    with pytest.raises(llm.ModelError):
        await ask("hard ours", complexity=6, fallback="local")
    assert not httpx_mock.get_requests()


async def test_a_rule_in_the_log(
    ask: Ask, toys: Toys, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """The log names the rules, and a conversation continued from it stays where one put it."""
    toys.configure(rules=[{"name": "chess", "words": "chess", "complexity": 6}])
    await ask("Chess?")
    [turn] = logged()
    assert json.loads(turn["response_json"])["tiered"]["rules"] == ["chess"]


def _request(text: str, **given: Any) -> TieredRequest:
    model = llm.get_model("tiered")
    return TieredRequest(llm.Prompt(text, model=model, **given), None, None)


@pytest.mark.usefixtures("toys")
def test_a_rule_is_not_estimated(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a rule chooses, nothing is estimated."""
    monkeypatch.setattr("llm_tiered.hooks.estimate", lambda _: pytest.fail("estimated"))
    toys.configure(rules=[{"complexity": 6}])
    assert _request("Hello").decision.tier == "medium"


def test_settings_of_the_task_that_a_rule_gives(toys: Toys) -> None:
    """Escalation and cache are those of the task, as if the request had named it."""
    toys.configure(rules=[{"task": "haiku"}], tasks={"haiku": {"complexity": 2, "escalate": True}})
    assert _request("Hello").escalates
    toys.configure(rollout={"haiku": "0%"})
    assert _request("Hello").decision.tier == "medium"


def test_a_tier_that_a_rule_names_is_not_rolled_out(toys: Toys) -> None:
    """As for a request that names its tier."""
    toys.configure(rules=[{"words": "a", "tier": "small"}], rollout={"small": "0%"})
    assert _request("a").decision.tier == "small"


def test_without_rules_nothing_is_looked_at(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config without rules costs a prompt nothing."""
    monkeypatch.setattr("llm_tiered.router.facts.facts_of", lambda *_: pytest.fail("looked at"))
    assert _request("Hello").decision.rules == ()


# The facts


def test_fragments_have_names(toys: Toys, log: Path, tmp_path: Path) -> None:
    """A fragment is known by its path or URL, and by the alias that the user gave it."""
    file = tmp_path / "notes.md"
    file.write_text("Notes")
    invoke("fragments", "set", "mine", str(file))
    for name, expected in (("mine", "small"), ("*.md", "small"), ("other", "medium")):
        toys.configure(rules=[{"fragments": name, "tier": "small"}, {"tier": "medium"}])
        fragment = Fragment("Notes", str(file))
        assert _request("Hi", fragments=[fragment]).decision.tier == expected, name
        assert _request("Hi", system_fragments=[fragment]).decision.tier == expected, name
        assert _request("Hi", fragments=["Notes"]).decision.tier == "medium"


def test_no_server_is_asked_for_a_type(toys: Toys, connections: list[Any]) -> None:
    """The type of a URL is a guess for a rule that chooses, and unknown for one that keeps."""
    picture = llm.Attachment(url="https://example.org/a.png")
    toys.configure(rules=[{"attachments": "image", "complexity": 9}])
    assert _request("Hi", attachments=[picture]).decision.tier == "cloud"
    toys.configure(rules=[{"attachments": "application/pdf", "place": "here"}])
    assert _request("Hi", attachments=[picture]).decision.keep_local
    assert connections == []


@pytest.mark.parametrize("how", [[], ["--no-stream"], ["--async"]], ids=str)
def test_templates_have_names(toys: Toys, log: Path, how: list[str]) -> None:
    """On the command line, a rule knows the template, also in `llm chat`."""
    toys.configure(rules=[{"template": "rev*", "tier": "small"}, {"tier": "medium"}])
    templates = Path(llm.user_dir()) / "templates"
    templates.mkdir()
    (templates / "review.yaml").write_text("prompt: 'Review: $input'")
    prompt = ("prompt", "-m", "tiered", *how, "Hello")
    assert invoke(*prompt).stdout.strip() == "medium answer"
    assert invoke(*prompt, "-t", "review").stdout.strip() == "small answer"
    if not how:
        chat = CliRunner().invoke(cli, ["chat", "-m", "tiered", "-t", "review"], "Hi\nquit\n")
        assert "small answer" in chat.output
