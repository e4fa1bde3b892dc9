"""A model's tokenizer as llguidance sees it."""

from __future__ import annotations

import json
import re
from copy import copy
from typing import Any

from ...errors import RequestError

# What stands for a byte of a character that is not in the vocabulary.
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def make_tokenizer(tokenizer: Any, width: int) -> Any:
    """Return llguidance's form of a model's tokenizer, for logits of this width.

    Building it takes about half a second. Raises RequestError if it is none of Hugging Face's fast
    tokenizers.
    """
    import llguidance

    if not tokenizer._tokenizer.is_fast:
        raise RequestError("a model with a slow tokenizer can't do schemas or log-probabilities")
    backend = copy(tokenizer._tokenizer.backend_tokenizer)
    backend.no_padding()
    backend.no_truncation()
    eos = sorted(tokenizer.eos_token_ids)
    return llguidance.LLTokenizer(_unmatched(backend.to_str()), n_vocab=width, eos_token=eos)


def _unmatched(text: str) -> str:
    """Return a tokenizer's JSON with names of added tokens that no text contains.

    A mask allows no added token, such as <think>. But where JSON has to contain such a name,
    llguidance would find the token in it and allow nothing else
    (findings/llguidance-added-tokens.sh).
    """
    document: Any = json.loads(text)
    # They begin and end with a code point that is not a character.
    names: dict[str, str] = {}
    for token in document["added_tokens"]:
        if not _BYTE.fullmatch(token["content"]):
            names[token["content"]] = token["content"] = f"\ufdd0{token['id']}\ufdd0"
            # llguidance knows by the form of a name that it is not text; this one has another form.
            token["special"] = True
    _rename(document["model"], names)
    return json.dumps(document, ensure_ascii=False)


def _rename(model: dict[str, Any], names: dict[str, str]) -> None:
    """Rename tokens in a model, whose merges must not make them any more."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        inside = names.keys() & vocabulary.keys()
        for name in inside:
            vocabulary[names[name]] = vocabulary.pop(name)
        if inside and "merges" in model:
            model["merges"] = [
                pair for pair in model["merges"] if inside.isdisjoint(_parts_and_whole(pair))
            ]
    else:
        model["vocab"] = [[names.get(name, name), score] for name, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]


def _parts_and_whole(pair: Any) -> tuple[str, str, str]:
    first, second = pair.split(" ") if isinstance(pair, str) else pair
    return first, second, first + second
