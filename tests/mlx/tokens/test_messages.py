from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.parts import (
    AttachmentPart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    assistant,
    system,
    user,
)

from llm_tiered.errors import RequestError
from llm_tiered.mlx.tokens.messages import are_texts, encode, to_chat
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

PICTURE = AttachmentPart(attachment=llm.Attachment(type="image/png", content=b"png"))

# Like the templates of Gemma and of some Mistral models.
STRICT_TEMPLATE = """\
{%- for message in messages %}
    {%- if message.role not in ["user", "assistant"] %}
        {{- raise_exception("System role not supported") }}
    {%- endif %}
    {%- if (message.role == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("Conversation roles must alternate") }}
    {%- endif %}
    {{- "[" ~ message.role ~ "]" ~ message.content }}
{%- endfor %}
{{- "[assistant]" if add_generation_prompt }}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model."""
    return build("qwen2", tmp_path_factory.mktemp("messages"))


def load_tokenizer(folder: Path) -> Any:
    """Return a model's tokenizer, loaded by mlx_lm."""
    from mlx_lm.utils import load_tokenizer as load

    return load(folder)


def set_template(folder: Path, template: str | None) -> None:
    """Replace the tokenizer's chat template, or remove it."""
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings.pop("chat_template", None)
    file.write_text(json.dumps(settings | ({"chat_template": template} if template else {})))


def message(role: str, content: str) -> dict[str, str]:
    """Return a message in the form that chat templates expect."""
    return {"role": role, "content": content}


CHAT = [
    message("system", "Be brief."),
    message("user", "Hello"),
    message("assistant", "Hi!"),
    message("user", "And then?"),
]


def test_turns_keep_their_roles() -> None:
    """System, user and assistant messages keep their roles."""
    chat = to_chat([system("Be brief."), user("Hello"), assistant("Hi!"), user("And then?")])
    assert list(chat) == CHAT


def test_messages_of_one_role_become_one() -> None:
    """Consecutive messages of one role are merged, because templates want roles to alternate."""
    chat = to_chat([system("Be"), system("brief."), user("One"), user("Two"), assistant("Three")])
    assert list(chat) == [
        message("system", "Be\n\nbrief."),
        message("user", "One\n\nTwo"),
        message("assistant", "Three"),
    ]


def test_parts_of_a_message_become_its_lines() -> None:
    """The text parts of a message become separate lines."""
    [only] = to_chat([user(TextPart("One"), TextPart("Two"))])
    assert only == message("user", "One\nTwo")


def test_tool_calls_become_text() -> None:
    """Tool calls of another model, and their results, become text."""
    chat = to_chat(
        [
            user("How warm is it in Köln?"),
            assistant(ToolCallPart(name="weather", arguments={"city": "Köln"})),
            Message("tool", [ToolResultPart(name="weather", output="21 degrees")]),
            user("And then?"),
        ]
    )
    assert list(chat) == [
        message("user", "How warm is it in Köln?"),
        message("assistant", '[called weather with {"city": "Köln"}]'),
        message("user", "[weather returned 21 degrees]\n\nAnd then?"),
    ]


def test_reasoning_is_left_out() -> None:
    """The reasoning of earlier turns is left out, and so is a turn of reasoning only."""
    thought = ReasoningPart(text="He greets.")
    chat = to_chat([user("Hello"), assistant(thought, TextPart("Hi!")), assistant(thought)])
    assert list(chat) == [message("user", "Hello"), message("assistant", "Hi!")]


def test_reasoning_between_tool_calls() -> None:
    """The reasoning that led to tool calls stays until the next question."""
    thought = ReasoningPart(text="I need the weather.")
    call = ToolCallPart(name="weather", arguments={})
    result = Message("tool", [ToolResultPart(name="weather", output="21 degrees")])
    turns = [user("How warm?"), assistant(thought, call), result]
    chat = to_chat(turns, tools=True)
    assert chat[1]["reasoning_content"] == "I need the weather."
    turns += [assistant("21."), user("And now?"), assistant(thought, call)]
    later = to_chat(turns, tools=True)
    assert ["reasoning_content" in entry for entry in later] == [*[False] * 5, True]
    assert not any("reasoning_content" in entry for entry in to_chat(turns))


def test_answer_that_mentions_thoughts(tmp_path: Path) -> None:
    """An earlier answer stays whole, whatever it says of </think>, and so does one that thought."""
    tokenizer = load_tokenizer(build("qwen3", tmp_path))
    answer = "<think>\n\n</think>\n\nIt ends with </think>, then comes the answer."
    chat = to_chat([user("How?"), assistant(answer), user("And then?")])
    assert f"<|im_start|>assistant\n{answer}<|im_end|>" in tokenizer.decode(encode(tokenizer, chat))


def test_attachments_are_ignored() -> None:
    """Of a message with an attachment, only the text remains."""
    assert list(to_chat([user(TextPart("Hello"), PICTURE)])) == [message("user", "Hello")]


@pytest.mark.parametrize(
    "messages",
    [[], [user("")], [system("Be brief.")], [system("Be brief."), user(PICTURE)]],
    ids=["none", "empty", "system prompt", "attachment"],
)
def test_nothing_to_answer(messages: list[Message]) -> None:
    """A prompt without text in the user's messages is refused."""
    with pytest.raises(RequestError, match="the prompt is empty"):
        to_chat(messages)


def test_tokens_are_those_of_the_template(folder: Path) -> None:
    """A chat is encoded with the model's own template, ready for its answer."""
    tokenizer = load_tokenizer(folder)
    tokens = encode(tokenizer, CHAT)
    assert all(type(token) is int for token in tokens)
    assert tokenizer.decode(tokens) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi!<|im_end|>\n<|im_start|>user\nAnd then?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_template_without_a_system_role(tmp_path: Path) -> None:
    """If a template rejects system messages, the system prompt precedes the first question."""
    set_template(build("qwen2", tmp_path), STRICT_TEMPLATE)
    tokenizer = load_tokenizer(tmp_path)
    text = tokenizer.decode(encode(tokenizer, CHAT))
    assert text == "[user]Be brief.\n\nHello[assistant]Hi![user]And then?[assistant]"
    assert CHAT[0] == message("system", "Be brief.")


def test_no_template_at_all(tmp_path: Path) -> None:
    """Without a chat template, the texts are encoded one after the other."""
    set_template(build("qwen2", tmp_path), None)
    tokenizer = load_tokenizer(tmp_path)
    text = tokenizer.decode(encode(tokenizer, CHAT))
    assert text == "Be brief.\n\nHello\n\nHi!\n\nAnd then?"


@pytest.mark.parametrize(
    "invalid",
    [
        user("gr\udcfc\udcdfe"),
        system("\ud83d"),
        assistant(ToolCallPart(name="weather", arguments={"city": "\ud83d"})),
        Message("tool", [ToolResultPart(name="weather", output="\ud83d")]),
    ],
)
def test_lone_surrogates_are_refused(invalid: Message) -> None:
    """Text that is not valid Unicode, as after reading another encoding, is refused."""
    with pytest.raises(RequestError, match=r"not valid Unicode: character \d of \d is '.ud"):
        to_chat([user("Hello"), assistant("Hi"), invalid], tools=True)


def test_texts_are_the_same_for_all_templates() -> None:
    """Whether a template supports tools matters only where there is more than texts."""
    texts = [system("Be brief"), user("Hello"), assistant(""), user("Again")]
    assert are_texts(texts)
    assert to_chat(texts, tools=True) == to_chat(texts, tools=False)
    call = Message(role="assistant", parts=[ToolCallPart(name="look", arguments={})])
    assert not are_texts([*texts, call])
