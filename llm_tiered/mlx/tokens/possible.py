"""What llguidance can do of a schema, and what of it can come to an end."""

from __future__ import annotations

import functools
import json
from typing import Any

from ...schema_drafts import LISTS, MAPS, SCHEMAS, Schema

# A pattern that names more properties than these, or takes more steps to tell, names any number.
_MOST_NAMES = 32
_MOST_STEPS = 1000


def is_possible(schema: dict[str, Any]) -> bool:
    """Whether llguidance can do a schema, if only to find that nothing fits it."""
    found = problem(schema)
    return found is None or "nsatisfiable" in found


def problem(schema: dict[str, Any]) -> str | None:
    """Return why llguidance can't do a schema, or None if it can."""
    return _problem(json.dumps(schema))


@functools.lru_cache(maxsize=1024)
def _problem(schema: str) -> str | None:
    from llguidance import LLMatcher

    try:
        grammar = LLMatcher.grammar_from_json_schema(schema)
    except ValueError as error:
        return str(error)
    return LLMatcher.validate_grammar(grammar) or None


@functools.lru_cache(maxsize=256)
def names(pattern: str) -> tuple[str, ...]:
    """Return all names that a translated pattern matches, if they are few; else nothing."""
    import numpy as np
    from llguidance import LLMatcher, LLTokenizer

    schema = json.dumps({"type": "string", "pattern": pattern})
    # Each byte is a token.
    grammar = LLMatcher.grammar_from_json_schema(schema)
    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0)
    if matcher.is_error():
        return ()
    found: list[str] = []
    beginnings = [(b"", matcher)]
    for _ in range(_MOST_STEPS):
        if not beginnings:
            return tuple(found)
        text, matcher = beginnings.pop()
        if matcher.is_accepting():
            found.append(json.loads(text))
            continue
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        following = np.flatnonzero(np.unpackbits(bits, bitorder="little")[:256]).tolist()
        if len(found) + len(following) > _MOST_NAMES:
            return ()
        for token in following:
            beginnings.append((text + bytes([token]), matcher.deep_copy()))
            beginnings[-1][1].consume_token(token)
    return ()


def without_endless(definitions: dict[str, Any]) -> dict[str, Any]:
    """Return definitions with False for every part whose JSON could never end."""
    ending: set[str] = set()
    while True:
        more = {f"#/$defs/{name}" for name, each in definitions.items() if _ends(each, ending)}
        if more == ending:
            return {name: _pruned(each, ending) for name, each in definitions.items()}
        ending = more


def without_impossible(definitions: dict[str, Any]) -> dict[str, Any]:
    """Return definitions with False for every part that needs a definition which nothing fits."""
    possible = {f"#/$defs/{name}" for name in definitions}
    anything = dict.fromkeys(definitions, True)
    while True:
        pruned = {name: _pruned(each, possible) for name, each in definitions.items()}
        impossible = {
            f"#/$defs/{name}"
            for name, each in pruned.items()
            if each is False or (each is not True and not _may_fit({**each, "$defs": anything}))
        }
        if impossible.isdisjoint(possible):
            return pruned
        possible -= impossible


def _may_fit(schema: dict[str, Any]) -> bool:
    return "nsatisfiable" not in (problem(schema) or "")


def _pruned(schema: Schema, ending: set[str]) -> Schema:
    """Return a schema with False for what needs a reference that is not among these."""
    if isinstance(schema, bool) or not _ends(schema, ending):
        return schema is True
    out: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in SCHEMAS:
            out[keyword] = _pruned(value, ending)
        elif keyword in LISTS:
            out[keyword] = [_pruned(each, ending) for each in value]
        elif keyword in MAPS:
            out[keyword] = {name: _pruned(each, ending) for name, each in value.items()}
        else:
            out[keyword] = value
    return out


def _ends(schema: Schema, ending: set[str]) -> bool:
    """Whether JSON that fits a schema can end, if that of these references can."""
    if isinstance(schema, bool):
        return True
    if "$ref" in schema and schema["$ref"] not in ending:
        return False
    if not all(_ends(each, ending) for each in schema.get("allOf", ())):
        return False
    for keyword in ("anyOf", "oneOf"):
        # If all are False, llguidance says so.
        branches = [each for each in schema.get(keyword, ()) if each is not False]
        if branches and not any(_ends(each, ending) for each in branches):
            return False
    if schema.get("type") in ("array", ["array"]):
        least = schema.get("minItems", 0)
        items = schema.get("prefixItems", [])[:least]
        items += [schema.get("items", True)] * (least > len(items))
        return all(_ends(item, ending) for item in items)
    if schema.get("type") in ("object", ["object"]):
        return _object_ends(schema, ending)
    return True


def _object_ends(schema: dict[str, Any], ending: set[str]) -> bool:
    declared = schema.get("properties", {})
    if not all(_ends(declared.get(name, True), ending) for name in schema.get("required", ())):
        return False
    few = sum(_ends(each, ending) for each in declared.values())
    if few == len(declared) or schema.get("minProperties", 0) <= few:
        return True
    others = [schema.get("additionalProperties", True)]
    others += schema.get("patternProperties", {}).values()
    return any(each is not False and _ends(each, ending) for each in others)
