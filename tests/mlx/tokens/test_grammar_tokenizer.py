"""llguidance's view of a tokenizer: names of added tokens can be text, in JSON as well."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from mlx_lm.tokenizer_utils import TokenizerWrapper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from llm_tiered.errors import RequestError
from llm_tiered.mlx.tokens.grammar_tokenizer import make_tokenizer
from llm_tiered.mlx.tokens.structured import compile_schema
from tests.tiny_models import _FORMATS, CORPUS, _train_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

SPECIAL = ["<unk>", "<s>"]
DECODER = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
ALPHABET = [*'<|>/▁"', *map(chr, range(97, 123))]


def tokenizers() -> Iterator[tuple[str, Any]]:
    """Yield the tokenizers of the families, and others with added tokens in their vocabularies."""
    for family, form in _FORMATS.items():
        yield family, _train_tokenizer(form)
    merged = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    merged.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    merged.decoder = DECODER
    trained = trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL, initial_alphabet=ALPHABET, show_progress=False
    )
    merged.train_from_iterator([CORPUS, *["<think>", "</think>"] * 50], trained)
    assert "<think>" in merged.get_vocab()
    yield "merged", merged
    pieces = [(text, -1.0) for text in (*SPECIAL, *ALPHABET)]
    unigram = Tokenizer(models.Unigram(pieces, 0, byte_fallback=True))
    unigram.decoder = DECODER
    unigram.add_special_tokens(SPECIAL)
    yield "unigram", unigram


TOKENIZERS = dict(tokenizers())


def wrapped(name: str) -> Any:
    """Return a tokenizer as mlx_lm has it, with <think> and </think> among its added tokens."""
    hub = TOKENIZERS[name]
    if isinstance(hub, Tokenizer):
        hub.add_tokens([AddedToken("<think>", normalized=False), "</think>"])
        hub = PreTrainedTokenizerFast(tokenizer_object=hub, eos_token="<s>", unk_token="<unk>")
    return TokenizerWrapper(hub)


def allowed_by(matcher: Any) -> list[int]:
    """Return the tokens that a mask allows next."""
    bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
    allowed: list[int] = np.flatnonzero(np.unpackbits(bits, bitorder="little")).tolist()
    return allowed


@pytest.mark.parametrize("name", TOKENIZERS)
def test_no_added_token_in_a_string(name: str) -> None:
    """A string of any text is written without added tokens, special or not."""
    tokenizer = wrapped(name)
    view = make_tokenizer(tokenizer, len(tokenizer.get_vocab()))
    matcher = compile_schema({"type": "string"}, view).matcher
    quote = tokenizer.encode('"', add_special_tokens=False)
    assert matcher.consume_tokens(matcher.compute_ff_tokens() or quote)
    allowed = allowed_by(matcher)
    assert len(allowed) > 20
    assert tokenizer.added_tokens_decoder.keys().isdisjoint(allowed)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_names_of_added_tokens(name: str) -> None:
    """JSON can contain the names of all added tokens, written in others."""
    tokenizer = wrapped(name)
    added = tokenizer.added_tokens_decoder
    view = make_tokenizer(tokenizer, len(tokenizer.get_vocab()))
    for token in added.values():
        matcher = compile_schema({"const": f"a{token.content}"}, view).matcher
        tokens: list[int] = []
        while not matcher.is_accepting():
            allowed = allowed_by(matcher)
            assert added.keys().isdisjoint(allowed)
            following = matcher.compute_ff_tokens() or allowed[:1]
            assert following, f"nothing may follow {tokenizer.decode(tokens)!r}"
            assert matcher.consume_tokens(following)
            tokens += following
        assert tokenizer.decode(tokens).strip() == json.dumps(f"a{token.content}")


def test_slow_tokenizer() -> None:
    """A tokenizer that can't be looked into can't be guided."""
    slow = SimpleNamespace(_tokenizer=SimpleNamespace(is_fast=False), eos_token_ids={0})
    with pytest.raises(RequestError, match="a slow tokenizer"):
        make_tokenizer(slow, 10)
