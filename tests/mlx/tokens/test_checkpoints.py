"""Checkpoints lie where other prompts are likely to go on differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.tokens import checkpoints
from llm_tiered.mlx.tokens.messages import encode
from tests.tiny_models import Family, build

if TYPE_CHECKING:
    from pathlib import Path

FAMILIES: tuple[Family, ...] = ("phi3", "qwen3", "gemma3_text")
SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": "Hello"}
HI = {"role": "assistant", "content": "Hi!"}
WHY = {"role": "user", "content": "Why?"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
OPENING = "<|im_start|>assistant"
RESULT = {"role": "tool", "name": "add", "content": "2"}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tokenizers of several families."""
    from mlx_lm.utils import load_tokenizer

    root: Path = tmp_path_factory.mktemp("checkpoints")
    return {each: load_tokenizer(build(each, root / each)) for each in FAMILIES}


def parts(tokenizer: Any, *chat: dict[str, Any], **options: Any) -> list[str]:
    """Return the parts of the prompt that end at the checkpoints."""
    prompt = encode(tokenizer, chat, **options)
    lengths = checkpoints.find(tokenizer, chat, prompt, **options)
    assert all(0 < length < len(prompt) for length in lengths)
    return [tokenizer.decode(prompt[:length]) for length in lengths]


@pytest.mark.parametrize(
    ("family", "start", "end"),
    [
        ("phi3", "<|system|>\nBe brief.<|end|>\n<|user|>\n", "Hello<|end|>\n<|assistant|>"),
        (
            "qwen3",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n",
            "Hello<|im_end|>\n<|im_start|>assistant",
        ),
        (
            "gemma3_text",
            "<bos><start_of_turn>user\nBe brief.\n\n",
            "Hello<end_of_turn>\n<start_of_turn>model",
        ),
    ],
)
def test_first_turn(family: str, start: str, end: str, tokenizers: dict[str, Any]) -> None:
    """There is one after the system prompt, and one where any answer may begin."""
    assert parts(tokenizers[family], SYSTEM, HELLO) == [start, start + end]


@pytest.mark.parametrize("thinking", [None, True, False])
def test_next_turn_begins_so(thinking: bool | None, tokenizers: dict[str, Any]) -> None:
    """Each turn has its checkpoint at the start of every later prompt, in any mode."""
    tokenizer = tokenizers["qwen3"]
    *_, question = parts(tokenizer, HELLO, thinking=thinking)
    *_, answered = parts(tokenizer, HELLO, HI, WHY, thinking=not thinking)
    assert question.rstrip() == f"<|im_start|>user\nHello<|im_end|>\n{OPENING}"
    assert answered.startswith(question)
    assert answered.rstrip().endswith(f"<|im_start|>user\nWhy?<|im_end|>\n{OPENING}")


def test_tools(tokenizers: dict[str, Any]) -> None:
    """The specifications of the tools belong to the start; results of calls end a turn."""
    tokenizer = tokenizers["qwen3"]
    start, turn = parts(tokenizer, HELLO, CALLING, RESULT, tools=[TOOL])
    assert start.endswith("</tool_call><|im_end|>\n<|im_start|>user\n")
    assert turn.startswith(parts(tokenizer, HELLO, tools=[TOOL])[-1])
    assert turn.endswith(f"<tool_response>\n2\n</tool_response><|im_end|>\n{OPENING}")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, ["Hello\n\nHi!\n\nWhy"]),
        ("{{ messages[-1].content }}", ["Why"]),
        ("{{ raise_exception('no') if messages|length < 3 }}{{ messages[-1].content }}:", ["Why?"]),
    ],
    ids=["none", "without opening", "refuses parts"],
)
def test_unusual_templates(
    template: str | None, expected: list[str], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    """Where nothing opens the answer, the last token is left for it."""
    from mlx_lm.utils import load_tokenizer

    folder = build("phi3", tmp_path)
    tokenizers["phi3"].save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = load_tokenizer(folder)
    tokenizer._tokenizer.chat_template = template
    tokenizer.has_chat_template = template is not None
    assert parts(tokenizer, HELLO, HI, WHY) == expected
