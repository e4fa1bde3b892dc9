"""The tiny models load, generate and format chats like the real families."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from tests.tiny_models import Family, build

if TYPE_CHECKING:
    from pathlib import Path

FAMILIES: tuple[Family, ...] = (
    *("phi3", "qwen2", "qwen3", "qwen3_next", "qwen3_5", "gemma3_text"),
)

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi!"},
    {"role": "user", "content": "Who are you?"},
]
PHI_CHAT = (
    "<|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n"
    "<|assistant|>\nHi!<|end|>\n<|user|>\nWho are you?<|end|>\n<|assistant|>\n"
)
QWEN_CHAT = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    "<|im_start|>assistant\nHi!<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n"
    "<|im_start|>assistant\n"
)
GEMMA_CHAT = (
    "<bos><start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n"
    "<start_of_turn>model\nHi!<end_of_turn>\n<start_of_turn>user\nWho are you?<end_of_turn>\n"
    "<start_of_turn>model\n"
)

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}},
    {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}},
]
TOOL_CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "Add."},
    {"role": "assistant", "content": "", "tool_calls": CALLS},
    {"role": "tool", "content": "one"},
    {"role": "tool", "content": "two"},
]
TOOL_SECTION = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
"""
TOOL_TURNS = """\
<|im_start|>user
Add.<|im_end|>
<|im_start|>assistant
<tool_call>
{"name": "add", "arguments": {"a": 1}}
</tool_call>
<tool_call>
{"name": "add", "arguments": {"a": 2}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
one
</tool_response>
<tool_response>
two
</tool_response><|im_end|>
<|im_start|>assistant
"""
QWEN2_SYSTEM = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
)


Folders: TypeAlias = "dict[Family, Path]"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A model of each family. Read only."""
    root = tmp_path_factory.mktemp("families")
    return {family: build(family, root / family) for family in FAMILIES}


def load(folder: Path) -> tuple[Any, Any]:
    """Load the folder like the engine."""
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(folder))
    return model, tokenizer


def generate(folder: Path, count: int) -> list[int]:
    """Generate tokens at temperature 0."""
    import mlx_lm

    model, tokenizer = load(folder)
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)
    replies = mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=count)
    return [reply.token for reply in replies]


def render(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> str:
    """Render messages as text, up to where the model's answer begins."""
    text: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **options
    )
    return text


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_loads_and_generates_in_silence(
    family: Family, quantize: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A tiny model loads and generates without ending its turn or printing anything."""
    tokens = generate(build(family, tmp_path, quantize=quantize), 5)

    assert len(tokens) == 5
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_gives_the_same_files(family: Family, tmp_path: Path) -> None:
    """The same seed writes the same files; another seed changes only the weights."""
    first, again, other = (
        {
            file.name: file.read_bytes()
            for file in build(family, tmp_path / name, seed=seed).iterdir()
        }
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )

    assert first == again
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_high_eos_bias_ends_the_turn(family: Family, tmp_path: Path) -> None:
    """With a high bias the first token is the one that ends the family's turns."""
    token = generate(build(family, tmp_path, eos_bias=100.0), 1)[0]

    _, tokenizer = load(tmp_path)
    ends = {"phi3": "<|end|>", "gemma3_text": "<end_of_turn>"}
    assert tokenizer.decode([token]) == ends.get(family, "<|im_end|>")


@pytest.mark.parametrize(
    ("family", "tool_calling", "thinking", "eos"),
    [
        ("phi3", False, False, {"<|endoftext|>"}),
        ("qwen2", True, False, {"<|im_end|>", "<|endoftext|>"}),
        ("qwen3", True, True, {"<|im_end|>", "<|endoftext|>"}),
        ("qwen3_next", True, True, {"<|im_end|>", "<|endoftext|>"}),
        ("qwen3_5", True, True, {"<|im_end|>", "<|endoftext|>"}),
        ("gemma3_text", False, False, {"<eos>", "<end_of_turn>"}),
    ],
)
def test_capabilities(
    family: Family, tool_calling: bool, thinking: bool, eos: set[str], folders: Folders
) -> None:
    """mlx-lm detects the same capabilities as in the real families."""
    _, tokenizer = load(folders[family])

    assert tokenizer.has_tool_calling is tool_calling
    assert tokenizer.has_thinking is thinking
    assert {tokenizer.decode([token]) for token in tokenizer.eos_token_ids} == eos


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("phi3", PHI_CHAT),
        ("qwen2", QWEN_CHAT),
        ("qwen3", QWEN_CHAT),
        ("qwen3_next", QWEN_CHAT),
        ("qwen3_5", QWEN_CHAT),
        ("gemma3_text", GEMMA_CHAT),
    ],
)
def test_chat_format(family: Family, expected: str, folders: Folders) -> None:
    """A chat with a system prompt is rendered in the family's format."""
    _, tokenizer = load(folders[family])

    text = render(tokenizer, CHAT)

    assert text == expected
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_default_system_prompt(folders: Folders) -> None:
    """Without a system prompt, Qwen 2.5 uses its own, the others none."""
    user = [{"role": "user", "content": "Hello"}]
    texts = {family: render(load(folders[family])[1], user) for family in FAMILIES}

    turns = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert texts == {
        "phi3": "<|user|>\nHello<|end|>\n<|assistant|>\n",
        "qwen2": f"{QWEN2_SYSTEM}<|im_end|>\n{turns}",
        "qwen3": turns,
        "qwen3_next": turns,
        "qwen3_5": turns,
        "gemma3_text": "<bos><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n",
    }


@pytest.mark.parametrize(
    ("family", "start", "system_start"),
    [
        ("qwen2", f"{QWEN2_SYSTEM}\n\n", "<|im_start|>system\nBe brief.\n\n"),
        ("qwen3", "<|im_start|>system\n", "<|im_start|>system\nBe brief.\n\n"),
    ],
)
def test_tool_format(family: Family, start: str, system_start: str, folders: Folders) -> None:
    """Qwen's tools go into the system message, calls and results between tags."""
    _, tokenizer = load(folders[family])

    assert render(tokenizer, TOOL_CHAT, tools=[TOOL]) == start + TOOL_SECTION + TOOL_TURNS
    with_system = render(tokenizer, [CHAT[0], *TOOL_CHAT], tools=[TOOL])
    assert with_system == system_start + TOOL_SECTION + TOOL_TURNS


def test_phi_ignores_tools(folders: Folders) -> None:
    """Phi's template leaves tools out."""
    _, tokenizer = load(folders["phi3"])

    assert render(tokenizer, CHAT, tools=[TOOL]) == PHI_CHAT


def test_qwen3_thinking(folders: Folders) -> None:
    """Qwen 3 can be told not to think, and drops the thinking of earlier turns."""
    _, tokenizer = load(folders["qwen3"])
    thought = {"role": "assistant", "content": "<think>\nGreet.\n</think>\n\nHi!"}

    text = render(tokenizer, [*CHAT[:2], thought, CHAT[3]], enable_thinking=False)

    assert text == QWEN_CHAT + "<think>\n\n</think>\n\n"


def test_qwen3_keeps_thinking_between_tool_calls(folders: Folders) -> None:
    """After the last question, Qwen 3's thinking stays in the chat."""
    _, tokenizer = load(folders["qwen3"])
    call = {**TOOL_CHAT[1], "content": "<think>\nAdd them.\n</think>\n\n"}

    text = render(tokenizer, [TOOL_CHAT[0], call, *TOOL_CHAT[2:]])

    assert "<|im_start|>assistant\n<think>\nAdd them.\n</think>\n\n<tool_call>\n" in text


def test_config(tmp_path: Path) -> None:
    """The config has the context, the quantisation and, for Phi, a single EOS id."""
    folder = build("phi3", tmp_path, context=128, quantize=True)

    config = json.loads((folder / "config.json").read_text())
    assert config["max_position_embeddings"] == 128
    assert config["quantization"] == {"group_size": 64, "bits": 4, "mode": "affine"}
    _, tokenizer = load(folder)
    assert config["eos_token_id"] == tokenizer.convert_tokens_to_ids("<|endoftext|>")
