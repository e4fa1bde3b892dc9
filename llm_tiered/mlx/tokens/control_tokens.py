"""A chat → tokens, where only the chat template writes control tokens.

A text that merely mentions <think> or <|im_end|> is encoded as ordinary text. transformers can do
the same (`sanitize_control_tokens`), but not in all versions that mlx_lm allows, not for mlx_lm's
own templates, and a template that splits earlier answers at </think> would still do so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ...errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Characters for private use: one that is not in the chat marks the places.
_PRIVATE = range(0xE000, 0xF900)

_patterns: WeakKeyDictionary[Any, re.Pattern[str]] = WeakKeyDictionary()


def encode_chat(
    tokenizer: Any, chat: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> list[int]:
    """Return the tokens of a chat in the tokenizer's chat template.

    `options` are those of mlx_lm's `apply_chat_template`. Raises jinja2.TemplateError if the
    template rejects the chat.
    """
    texts = list(strings([list(chat), dict(options)]))
    pattern = _control_tokens(tokenizer)
    if not any(pattern.search(text) for text in texts):
        return list(tokenizer.apply_chat_template(list(chat), **options))
    mark, escaped = _unused(texts)

    def broken(token: re.Match[str]) -> str:
        return f"{token[0][0]}{mark}{token[0][1:]}"

    marked = _replaced([list(chat), dict(options)], pattern, broken)
    rendered = tokenizer.apply_chat_template(marked[0], tokenize=False, **marked[1])
    # Some templates escape what is not ASCII.
    first, *others = rendered.replace(escaped, mark).split(mark)
    places, text = set[int](), first
    for other in others:
        places.add(len(text) - 1)
        text += other
    return _encode(tokenizer._tokenizer, text, places)


def _unused(texts: Sequence[str]) -> tuple[str, str]:
    """Return a character that no text contains, and how JSON may escape it."""
    for number in _PRIVATE:
        forms = chr(number), f"\\u{number:04x}"
        if not any(form in text for text in texts for form in forms):
            return forms
    raise RequestError("the prompt contains every character for private use")


def _encode(tokenizer: Any, text: str, places: set[int]) -> list[int]:
    """Return the tokens of a text, with ordinary tokens where control tokens are only mentioned.

    `places` are where these begin.
    """
    if not tokenizer.is_fast:
        # It does not tell which token comes from where.
        return list(tokenizer.encode(text, add_special_tokens=False))
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    added = tokenizer.added_tokens_decoder
    tokens: list[int] = []
    for token, (start, end) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
        mentioned = token in added and not places.isdisjoint(range(start, end))
        tokens += _ordinary_tokens(tokenizer, text[start:end]) if mentioned else [token]
    return tokens


def _ordinary_tokens(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens that write out the name of a control token."""
    backend = tokenizer.backend_tokenizer
    splits = [[text]]
    if backend.pre_tokenizer is not None:
        splits.insert(0, [part for part, _ in backend.pre_tokenizer.pre_tokenize_str(text)])
    # Some tokenizers put a space before the first word.
    before = tokenizer.encode("a", add_special_tokens=False)
    expected = tokenizer.decode(before) + text
    for parts in splits:
        tokens = [token.id for part in parts for token in backend.model.tokenize(part)]
        if tokenizer.decode([*before, *tokens]) == expected:
            return tokens
    return list(tokenizer.encode(text, add_special_tokens=False))


def _control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Return a pattern of what must not be taken from the chat.

    These are the special tokens, the markers of thoughts and tool calls, and all added tokens in
    the chat template. Others, such as Gemma's HTML tags, are there to be used in text.
    """
    if tokenizer not in _patterns:
        template = tokenizer.chat_template or ""
        templates = list(template.values()) if isinstance(template, dict) else [template]
        tokens = {
            added.content
            for added in tokenizer.added_tokens_decoder.values()
            if added.special or any(added.content in text for text in templates)
        }
        tokens |= {tokenizer.think_start, tokenizer.think_end}
        tokens |= {tokenizer.tool_call_start, tokenizer.tool_call_end}
        # DeepSeek's templates split at </think>, even if that is not a token.
        tokens |= {tag for tag in ("<think>", "</think>") if any(tag in text for text in templates)}
        names = {token for token in tokens if token and token.strip() and len(token) > 1}
        _patterns[tokenizer] = re.compile(_any_of(names) if names else r"(?!)")
    return _patterns[tokenizer]


def _any_of(names: set[str]) -> str:
    """Return a pattern of any of the names, the longest that is there.

    It shares their beginnings: some tokenizers have a thousand <SPECIAL_…>, which would all be
    tried at each <.
    """
    branches = [
        re.escape(first) + _any_of({name[1:] for name in names if name.startswith(first)})
        for first in sorted({name[0] for name in names if name})
    ]
    if len(branches) == 1 and "" not in names:
        return branches[0]
    alternatives = f"(?:{'|'.join(branches)})" if branches else ""
    return f"{alternatives}?" if branches and "" in names else alternatives


def strings(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value; keys are not values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def _replaced(value: Any, pattern: re.Pattern[str], replacement: Any) -> Any:
    """Return a JSON value with the pattern replaced in every string."""
    if isinstance(value, str):
        return pattern.sub(replacement, value)
    if isinstance(value, dict):
        return {key: _replaced(part, pattern, replacement) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(part, pattern, replacement) for part in value]
    return value
