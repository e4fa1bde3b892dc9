"""Only the chat template writes control tokens: in the texts of a chat they are ordinary text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.tokenizer_utils import TokenizerWrapper
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
from tokenizers.pre_tokenizers import Metaspace
from transformers import PreTrainedTokenizerFast

from llm_tiered.mlx.tokens.control_tokens import encode_chat
from tests.chat_templates import QWEN3_TEMPLATE
from tests.tiny_models import CORPUS, Family, build

if TYPE_CHECKING:
    from pathlib import Path

FAMILIES: tuple[Family, ...] = ("qwen2", "qwen3", "phi3")
MARKUP = (
    *("<|im_start|>", "<|im_end|>", "<|end|>", "<|user|>", "<|endoftext|>", "<think>"),
    *("</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
)
PARTS = st.sampled_from([*MARKUP, "<", "</", "think>", "|>", "\\", "\ue000", "\\ue000", "\n"])
TEXTS = st.lists(PARTS | st.text(alphabet="ab \"'é♭🙂", max_size=4), max_size=6).map("".join)
some = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tokenizers of a model of each family."""
    from mlx_lm.utils import load_tokenizer

    root = tmp_path_factory.mktemp("control")
    return {family: load_tokenizer(build(family, root / family, layers=1)) for family in FAMILIES}


def control_tokens(tokenizer: Any, tokens: list[int]) -> list[str]:
    """Return the control tokens among some tokens, by name."""
    added = tokenizer.added_tokens_decoder
    return [added[token].content for token in tokens if token in added]


def encode(tokenizer: Any, *chat: dict[str, Any], **options: Any) -> list[int]:
    """Encode a chat, ready for its answer."""
    return encode_chat(tokenizer, chat, {"add_generation_prompt": True, **options})


def message(role: str, content: str, **more: Any) -> dict[str, Any]:
    """Return a message in the form that chat templates expect."""
    return {"role": role, "content": content, **more}


def expected(tokenizer: Any, chat: list[dict[str, Any]], **options: Any) -> str:
    """Return a chat as the template renders it."""
    text: str = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=False, **options
    )
    return text


@some
@given(system=TEXTS, question=TEXTS, answer=TEXTS, family=st.sampled_from(FAMILIES))
def test_texts_come_back(
    tokenizers: dict[str, Any], system: str, question: str, answer: str, family: Family
) -> None:
    """Whatever the texts contain, the model reads just that, and none of it as control tokens."""
    tokenizer = tokenizers[family]
    roles = ("system", "user", "assistant", "user")
    texts = (f"S{system}E", f"S{question}E", f"S{answer}E", "And then?")
    chat = [message(*pair) for pair in zip(roles, texts, strict=True)]
    for each in chat[2:3]:
        each["reasoning_content"] = ""
    plain = [message(role, "x", reasoning_content="") for role in roles]
    tokens = encode(tokenizer, *chat)
    # Tokenizers write characters in their composed form; ours here are composed already.
    assert tokenizer.decode(tokens) == expected(tokenizer, chat)
    assert control_tokens(tokenizer, tokens) == control_tokens(tokenizer, encode(tokenizer, *plain))


def test_turns_encode_alike(tokenizers: dict[str, Any]) -> None:
    """A turn has the same tokens in every later prompt, so that its KV cache can be used again."""
    tokenizer = tokenizers["qwen2"]
    chat = [message("user", "What is <think>?"), message("assistant", "A <|im_end|> of </think>.")]
    chat += [message("user", "And </tool_call>?"), message("assistant", "<tool_call>!")]
    before: list[int] = []
    for length in (1, 3):
        tokens = encode(tokenizer, *chat[:length])
        assert tokens[: len(before)] == before
        before = tokens
    # Without anything to protect, the tokens are those of the tokenizer itself.
    plain = [message("user", "What is it?")]
    own = tokenizer.apply_chat_template(plain, add_generation_prompt=True)
    assert encode(tokenizer, *plain) == list(own)
    assert encode(tokenizer, *plain, message("assistant", "<think>"))[: len(own)] == list(own)


def test_tools_and_their_calls(tokenizers: dict[str, Any]) -> None:
    """Descriptions of tools, arguments of calls, results and thoughts are protected too."""
    tokenizer = tokenizers["qwen3"]

    def prompt(text: str) -> list[int]:
        function = {"name": "close", "description": f"Writes {text}.", "parameters": {}}
        call = {"type": "function", "function": {"name": "close", "arguments": {"tag": text}}}
        return encode(
            tokenizer,
            message("user", "Close it."),
            message("assistant", text, tool_calls=[call], reasoning_content=f"Is it {text}?"),
            message("tool", text, name="close"),
            tools=[{"type": "function", "function": function}],
        )

    for text in MARKUP:
        tokens = prompt(text)
        assert tokenizer.decode(tokens).count(text) >= 5
        assert control_tokens(tokenizer, tokens) == control_tokens(tokenizer, prompt("it"))


def test_template_that_splits_answers(tokenizers: dict[str, Any], tmp_path: Path) -> None:
    """A template that takes what comes before </think> for thoughts keeps a text's own."""
    from mlx_lm.utils import load_tokenizer

    folder = build("qwen2", tmp_path, layers=1)
    (folder / "chat_template.jinja").write_text(
        "{%- for message in messages %}{{ '<|im_start|>' ~ message.content.split('</think>')[-1] }}"
        "{%- endfor %}"
    )
    tokens = encode_chat(load_tokenizer(folder), [message("assistant", "a</think>b")], {})
    assert tokenizers["qwen2"].decode(tokens) == "<|im_start|>a</think>b"


def test_template_that_escapes(tmp_path: Path) -> None:
    """A template may write texts as JSON in ASCII."""
    from mlx_lm.utils import load_tokenizer

    folder = build("qwen3", tmp_path, layers=1)
    (folder / "chat_template.jinja").write_text(
        "{{ messages[0].content | tojson(ensure_ascii=True) }}<think>"
    )
    tokenizer = load_tokenizer(folder)
    text = "é <think> \\ue000"
    tokens = encode_chat(tokenizer, [message("user", text)], {})
    written, _, rest = tokenizer.decode(tokens).rpartition("<think>")
    assert (json.loads(written), rest) == (text, "")
    assert control_tokens(tokenizer, tokens) == ["<think>"]


SENTENCEPIECE = {
    "space before every part": (
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        None,
    ),
    "space before the first part": (None, Metaspace(prepend_scheme="first", split=False)),
}


@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_sentencepiece(kind: str) -> None:
    """Tokenizers that write spaces as ▁ encode the texts as they do after any control token."""
    normalizer, pre_tokenizer = SENTENCEPIECE[kind]
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    if normalizer:
        backend.normalizer = normalizer
    if pre_tokenizer:
        backend.pre_tokenizer = pre_tokenizer
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        show_progress=False,
        special_tokens=special,
        initial_alphabet=[*"<|>/▁", *map(chr, range(97, 123))],
    )
    backend.train_from_iterator(CORPUS.splitlines(), trainer)
    backend.add_special_tokens([AddedToken("<|end|>", rstrip=True, normalized=False)])
    hub = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|end|>",
        chat_template="{{ messages[0].content }}<|end|>\n",
    )
    tokenizer = TokenizerWrapper(hub)
    for text in ("a <|end|> b", "a<|end|>b", "<|end|>", "<|end|>\n\nb"):
        tokens = encode_chat(tokenizer, [message("user", text)], {})
        assert control_tokens(hub, tokens)[-1:] == ["<|end|>"]
        assert tokens.count(hub.eos_token_id) == 1
        decoded = hub.decode(tokens[:-1])
        assert decoded.replace(" ", "") == text.replace(" ", "")
        if not normalizer:
            assert decoded.lstrip() == text


def test_tokens_for_text() -> None:
    """Added tokens that the template does not write, and that are not special, are for text."""
    assert "<h1>" not in QWEN3_TEMPLATE
    backend = Tokenizer(models.BPE())
    backend.add_tokens(["<h1>", "<turn>", "h", "1"])
    hub = PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template="<turn>{{ messages[0].content }}"
    )
    tokenizer = TokenizerWrapper(hub)
    tokens = encode_chat(tokenizer, [message("user", "<h1>")], {})
    assert control_tokens(hub, tokens) == ["<turn>", "<h1>"]


def test_tokens_that_begin_alike(tokenizers: dict[str, Any]) -> None:
    """Of tokens that begin alike, each one is protected, also the longest."""
    names = ["<a", "<ab", "<abc>", "<b>", *(f"<SPECIAL_{number}>" for number in range(300))]
    backend = Tokenizer.from_str(tokenizers["qwen2"].backend_tokenizer.to_str())
    backend.add_special_tokens(names)
    hub = PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template="<b>{{ messages[0].content }}"
    )
    tokenizer = TokenizerWrapper(hub)
    for text in ("<abc>", "<ab <a<a", "<abc <b>", "<SPECIAL_12><SPECIAL_1>"):
        tokens = encode_chat(tokenizer, [message("user", text)], {})
        assert hub.decode(tokens) == f"<b>{text}"
        assert control_tokens(hub, tokens) == ["<b>"]
