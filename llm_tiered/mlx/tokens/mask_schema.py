"""The part of a JSON Schema that a mask can hold; checking the answer has to do the rest."""

from __future__ import annotations

from typing import Any, NamedTuple

from ... import patterns
from ...schema_drafts import LISTS, MAPS, SCHEMAS, Schema
from . import formats
from .possible import is_possible, names, problem, without_endless, without_impossible

# Keywords that no grammar can express.
_LEFT_OUT = frozenset(
    (
        *("not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems"),
        *("dependentRequired", "dependentSchemas", "propertyNames"),
        *("unevaluatedItems", "unevaluatedProperties"),
    )
)
# What applies in the same place as its neighbours.
_IN_PLACE = frozenset(("allOf", "anyOf", "oneOf", "$ref", "if", "dependentSchemas"))
# What says which properties an object may have besides those that it declares.
_OTHERS = frozenset(
    ("additionalProperties", "patternProperties", "propertyNames", "unevaluatedProperties")
)
_LENGTHS = ("minLength", "maxLength")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
# Beyond it, not every integer is a 64-bit float, which is what bounds are to llguidance.
_LARGEST = 2**53
_COUNTS = ("minProperties", "maxProperties")


class Mask(NamedTuple):
    """A schema for llguidance, and whether it holds every keyword of the one it came from."""

    schema: dict[str, Any]
    is_exact: bool


def build(schema: dict[str, Any], *, merges: bool = True, prunes: bool = False) -> Mask:
    """Return what a mask can hold of a schema in draft 2020-12.

    An object that declares `properties` and says nothing of others gets no others, so that small
    models come to an end: what fits the closed object fits the open one. With `merges` False, only
    one of the schemas that apply in the same place is held: llguidance can't merge some that refer
    to themselves, and some that give very many combinations. With `prunes`, what refers to
    something that nothing fits is left out, where it may be. Raises ValueError if only JSON without
    end would fit.
    """
    builder = _Builder(schema, merges=merges)
    definitions = without_endless(builder.definitions)
    if definitions[builder.root] is False and builder.definitions[builder.root] is not False:
        raise ValueError("only JSON without end would fit it")
    if prunes:
        definitions = without_impossible(definitions)
    return Mask({"$ref": f"#/$defs/{builder.root}", "$defs": definitions}, builder.is_exact)


class _Builder:
    """Builds the mask's schema of one document."""

    def __init__(self, root: dict[str, Any], *, merges: bool) -> None:
        self._root = root
        self._merges = merges
        self.definitions: dict[str, Any] = {}
        self.is_exact = True
        self._in_branch = False
        self.root = self._reference("#", alone=True).removeprefix("#/$defs/")

    def _reference(self, pointer: str, *, alone: bool) -> str:
        """Return the reference to a schema: closed in one place, part of an `allOf` in another."""
        source = pointer.removeprefix("#/$defs/").removeprefix("#")
        name = f"{'closed' if alone else 'open'}-{source}"
        if name not in self.definitions:
            self.definitions[name] = True
            self.definitions[name] = self._schema(self._target(pointer), alone=alone)
        return f"#/$defs/{name}"

    def _target(self, pointer: str) -> Any:
        source = pointer.removeprefix("#/$defs/")
        return self._root if pointer == "#" else self._root["$defs"][source]

    def _schema(self, schema: Schema, *, alone: bool) -> Schema:
        """Return a schema's mask. `alone` says that no other schema applies in its place."""
        if isinstance(schema, bool):
            return schema
        if schema.get("not") in (True, {}):
            return False
        # Neighbours in the same place may say something of the parts too.
        parts_alone = alone and not schema.keys() & _IN_PLACE
        schema = self._number(self._text(self._object(schema, alone=alone)))
        if not self._merges:
            schema = self._one_of_several(schema)
        # What stands beside other keywords is not alone, unless these only name types.
        in_place = alone and len(schema.keys() - {"type", "$defs"}) == 1
        # A property may have to fit the schema of a pattern too.
        parts_alone = parts_alone and not schema.keys() >= {"properties", "patternProperties"}
        out: dict[str, Any] = {}
        for keyword, value in schema.items():
            if keyword == "$ref":
                out[keyword] = self._reference(value, alone=in_place)
            elif keyword in LISTS:
                is_one = keyword != "allOf" or len(value) == 1
                inside = parts_alone if keyword == "prefixItems" else in_place and is_one
                build = self._branch if keyword == "oneOf" else self._schema
                out[keyword] = [build(each, alone=inside) for each in value]
            elif keyword in MAPS:
                out[keyword] = {
                    name: self._schema(each, alone=parts_alone) for name, each in value.items()
                }
            elif keyword in SCHEMAS:
                out[keyword] = self._schema(value, alone=parts_alone)
            elif keyword != "$defs":
                out[keyword] = value
        return out

    def _branch(self, schema: Schema, *, alone: bool) -> Schema:
        """Return a branch of `oneOf`: llguidance can't tell references apart, but what they name.

        A branch inside a branch stays a reference, so that unions of unions don't multiply.
        """
        if self._in_branch or not isinstance(schema, dict) or schema.keys() != {"$ref"}:
            return self._schema(schema, alone=alone)
        self._in_branch = True
        branch = self._schema(self._target(schema["$ref"]), alone=alone)
        self._in_branch = False
        return branch

    def _one_of_several(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a schema that holds one thing in its place."""
        merged = [keyword for keyword in schema if keyword in ("allOf", "anyOf", "oneOf", "$ref")]
        if schema.keys() - {"type", "$defs"} - set(merged):
            return self._left(schema, *merged)
        schema = self._left(schema, *merged[1:])
        if len(schema.get("allOf", ())) > 1:
            self.is_exact = False
            schema = schema | {"allOf": schema["allOf"][:1]}
        return schema

    def _left(self, schema: dict[str, Any], *keywords: str) -> dict[str, Any]:
        """Return a schema without these keywords, which the check has to hold."""
        if schema.keys() & set(keywords):
            self.is_exact = False
        return _without(schema, *keywords)

    def _object(self, schema: dict[str, Any], *, alone: bool) -> dict[str, Any]:
        """Return a schema whose keywords for objects can be masked."""
        is_closed = alone and _is_closed(schema)
        allowed = schema.get("propertyNames")
        if isinstance(allowed, dict) and allowed.keys() == {"$ref"}:
            schema = schema | {"propertyNames": self._target(allowed["$ref"])}
        schema = _named_properties(schema)
        lost = _LEFT_OUT & schema.keys()
        if not all(_is_idle(keyword, schema) for keyword in lost):
            self.is_exact = False
        schema = _without(schema, *lost)
        if is_closed:
            schema["additionalProperties"] = False
        if "patternProperties" in schema:
            named = {
                patterns.translate(pattern): value
                for pattern, value in schema["patternProperties"].items()
            }
            schema["patternProperties"] = named
            schema = _with_names(schema)
        if "patternProperties" in schema:
            named = schema["patternProperties"]
            if problem({"type": "object", "patternProperties": dict.fromkeys(named, True)}):
                # Names that match would be forbidden as additional ones.
                schema = self._left(schema, "patternProperties", "additionalProperties")
        return self._counts(schema, alone=alone)

    def _counts(self, schema: dict[str, Any], *, alone: bool) -> dict[str, Any]:
        """Return a schema whose `minProperties` and `maxProperties` can be masked."""
        declared = schema.get("properties", {})
        required = schema.get("required", ())
        has_others = schema.get("additionalProperties") is not False
        if schema.get("minProperties", 0) <= len(required):
            schema = _without(schema, "minProperties")
        if not has_others and schema.get("maxProperties", 0) >= len(declared):
            schema = _without(schema, "maxProperties")
        if not schema.keys() & _COUNTS:
            return schema
        # A grammar counts only properties that are not declared: with a minimum, a model would
        # have to invent some, though declared ones would do. llguidance refuses that.
        probe = {
            "type": "object",
            "properties": dict.fromkeys(declared, True),
            "required": required,
            "additionalProperties": has_others,
            **{name: schema[name] for name in _COUNTS if name in schema},
        }
        if alone and not schema.keys() & _IN_PLACE and is_possible(probe):
            # Of several undeclared properties, two may have the same name, and count as one.
            if schema.get("minProperties", 0) > len(required) + 1:
                self.is_exact = False
            return schema
        return self._left(schema, *_COUNTS)

    def _text(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a schema whose keywords for text can be masked."""
        lengths = {name: schema[name] for name in _LENGTHS if name in schema}
        pattern = schema.get("pattern")
        rest = _without(schema, "pattern", "format", *_LENGTHS)
        if len(rest) == len(schema):
            return schema
        strict = dict(lengths)
        weaker = dict(lengths)
        if pattern is not None:
            strict["pattern"] = patterns.translate(pattern)
            weaker["pattern"] = patterns.without_assertions(pattern)
        format_ = {} if schema.keys() & {"enum", "const"} else formats.as_keyword(schema)
        # A format is an annotation: it is left out if it contradicts the rest.
        both = strict | format_
        if format_.keys().isdisjoint(strict) and problem({"type": "string", **both}) is None:
            return rest | both
        return rest | self._first("string", strict, weaker, lengths, {})

    def _number(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a schema whose keywords for numbers can be masked."""
        bounds = {name: schema[name] for name in _BOUNDS if name in schema}
        rest = _without(schema, "multipleOf", *_BOUNDS)
        if len(rest) == len(schema):
            return schema
        strict = bounds | ({"multipleOf": schema["multipleOf"]} if "multipleOf" in schema else {})
        kind = "integer" if schema.get("type") == "integer" else "number"
        is_rounded = any(abs(bound) > _LARGEST for bound in bounds.values())
        if is_rounded or (kind == "number" and _includes_a_bound(bounds)):
            self.is_exact = False
        return rest | self._first(kind, strict, bounds, {})

    def _first(self, kind: str, *choices: dict[str, Any]) -> dict[str, Any]:
        """Return the first of these keywords that llguidance can do; the first is exact."""
        chosen = next(each for each in choices if not each or is_possible({"type": kind, **each}))
        if chosen != choices[0]:
            self.is_exact = False
        return chosen


def _without(schema: dict[str, Any], *keywords: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in keywords}


def _is_closed(schema: dict[str, Any]) -> bool:
    """Whether an object has the properties that it declares, and no others."""
    if "properties" not in schema or schema.keys() & (_OTHERS | _IN_PLACE):
        return False
    declared = schema["properties"]
    return schema.get("minProperties", 0) <= len(declared) and all(
        name in declared for name in schema.get("required", ())
    )


def _is_idle(keyword: str, schema: dict[str, Any]) -> bool:
    """Whether a keyword that is left out makes no difference."""
    if keyword in ("then", "else"):
        return "if" not in schema
    if keyword == "if":
        return not schema.keys() & {"then", "else"}
    if keyword in ("minContains", "maxContains"):
        return "contains" not in schema
    return keyword == "uniqueItems" and schema[keyword] is False


def _with_names(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that declares the properties which a pattern names, if they can run out.

    Once all of them are written, a grammar would allow one more, and then find no name for it.
    """
    named = schema["patternProperties"]
    if schema.get("additionalProperties") is not False or not all(map(names, named)):
        return schema
    declared = dict(schema.get("properties", {}))
    for pattern, value in named.items():
        for name in names(pattern):
            declared[name] = {"allOf": [declared[name], value]} if name in declared else value
    return _without(schema, "patternProperties") | {"properties": declared}


def _includes_a_bound(bounds: dict[str, Any]) -> bool:
    """Whether llguidance lets through a whole number that is an exclusive bound.

    It does if the other bound is at most 1 away (findings/llguidance-exclusive-bounds.sh).
    """
    low = bounds.get("exclusiveMinimum", bounds.get("minimum"))
    high = bounds.get("exclusiveMaximum", bounds.get("maximum"))
    if low is None or high is None or high - low > 1:
        return False
    exclusive = [bounds[name] for name in _BOUNDS[2:] if name in bounds]
    return any(bound == int(bound) for bound in exclusive)


def _named_properties(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that says the same with properties and patterns, where that is possible."""
    others = schema.get("unevaluatedProperties")
    if others is not None and not schema.keys() & _IN_PLACE:
        schema = {"additionalProperties": others} | _without(schema, "unevaluatedProperties")
    allowed = schema.get("propertyNames")
    if not isinstance(allowed, dict) or schema.keys() & {"patternProperties", "properties"}:
        return schema
    rest = _without(allowed, "type")
    value = schema.get("additionalProperties", True)
    if rest.keys() == {"enum"}:
        named = [name for name in rest["enum"] if isinstance(name, str)]
        closed = {"properties": dict.fromkeys(named, value), "additionalProperties": False}
    elif (pattern := _pattern_of_names(rest)) is not None:
        closed = {"patternProperties": {pattern: value}, "additionalProperties": False}
    elif rest.keys() <= {"format"} and allowed.get("type", "string") == "string":
        # Every name is a string.
        closed = {}
    else:
        return schema
    return _without(schema, "propertyNames") | closed


def _pattern_of_names(names: dict[str, Any]) -> str | None:
    """Return the pattern that says the same of a text as a schema with one keyword, or None."""
    if names.keys() == {"pattern"}:
        return str(names["pattern"])
    if names.keys() == {"format"}:
        return formats.as_pattern(names["format"])
    if names and names.keys() <= set(_LENGTHS):
        return f"^[^]{{{names.get('minLength', 0)},{names.get('maxLength', '')}}}$"
    return None
