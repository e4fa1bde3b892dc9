"""Earlier turns for plugins that read the responses of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.cli import load_conversation
from llm.parts import ToolCallPart, ToolResultPart

from llm_tiered.router.history import responses_before
from tests import stand_in
from tests.stand_in import AsyncStandIn, StandIn

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.toys import Ask

IMAGE = llm.Attachment(type="image/png", content=b"png")
LOADED = [
    llm.system("Be brief"),
    llm.user("Add", IMAGE),
    llm.assistant("Let me see", ToolCallPart("add", {"a": 1}, "c1")),
    llm.tool_message(ToolResultPart("add", "3", "c1")),
    llm.assistant("It is 3"),
    llm.user("Thanks"),
    llm.assistant("Sure"),
]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_turns_of_a_loaded_conversation(asynchronous: bool) -> None:
    """Each answer is a finished response to what was asked before it."""
    inner: Any = AsyncStandIn("toy") if asynchronous else StandIn("toy")
    conversation = inner.conversation()
    prompt = llm.Prompt(None, model=inner, messages=[*LOADED, llm.user("More")])
    add, three, sure = responses_before(conversation, prompt, inner)
    assert [each.text_or_raise() for each in (add, three, sure)] == [
        "Let me see", "It is 3", "Sure",
    ]  # fmt: skip
    assert [each.prompt.prompt for each in (add, three, sure)] == ["Add", "", "Thanks"]
    assert [each.prompt.system for each in (add, three)] == ["Be brief", ""]
    assert (add.attachments, three.attachments) == ([IMAGE], [])
    assert [call.name for call in add._tool_calls] == ["add"]
    assert [result.output for result in three.prompt.tool_results] == ["3"]
    assert sure.prompt.messages == LOADED[:6]
    assert conversation.responses == []


async def test_model_that_reads_responses(
    ask: Ask, logged: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversation from the log, and what was said since, reaches it whole."""
    seen: list[list[str]] = []

    def read(model: Any, prompt: Any, response: Any) -> Any:
        turns = response.conversation.responses
        seen.append([f"{each.prompt.prompt}: {each.text_or_raise()}" for each in turns])
        return ["Yes"]

    monkeypatch.setattr(stand_in._StandIn, "_actions", read)
    await ask("Hello", to=ask.model.conversation(), complexity=2)
    conversation: Any = load_conversation(None, async_=ask.asynchronous)
    for words in ("Again", "And again"):
        await ask(words, to=conversation, complexity=2)
    assert seen == [[], ["Hello: Yes"], ["Hello: Yes", "Again: Yes"]]
    assert len(logged()) == 3
