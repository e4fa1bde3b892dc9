"""A JSON Schema of any draft, OpenAPI's and Gemini's included, as one of draft 2020-12.

What masks a model's tokens and what checks its answer read the result, so that both mean the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urljoin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Schema: TypeAlias = "dict[str, Any] | bool"

# The keywords whose values are schemas, lists of schemas, and schemas by name.
SCHEMAS = frozenset(
    (
        *("items", "contains", "additionalProperties", "propertyNames"),
        *("not", "if", "then", "else", "unevaluatedItems", "unevaluatedProperties"),
    )
)
LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
MAPS = frozenset(("properties", "patternProperties", "dependentSchemas"))
# Those with a value of another kind. All other keywords are annotations, or unknown.
VALUES = frozenset(
    (
        *("type", "enum", "const", "format", "pattern", "minLength", "maxLength"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minItems", "maxItems", "uniqueItems", "minContains", "maxContains"),
        *("required", "minProperties", "maxProperties", "dependentRequired"),
    )
)
# These apply to null too, unlike those for strings, numbers, arrays and objects.
APPLY_TO_NULL = ("enum", "const", "allOf", "anyOf", "oneOf", "$ref", "not", "if")

# The depth at which a schema becomes one of `$defs`: readers of schemas are recursive.
_DEEP = 24
# The keywords whose schemas apply to the same value.
_IN_PLACE = frozenset(("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"))
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
# The keywords whose values are data, in which nothing is a schema.
_DATA = ("enum", "const", "default", "example", "examples")
_OLD_DRAFTS = ("draft-03", "draft-04", "draft-06", "draft-07")


def modern(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a schema says, in draft 2020-12 and complete in itself.

    Each schema that is referred to becomes one of `$defs`; annotations and unknown keywords are
    left out, as both mean nothing. `nullable` and `discriminator` are what they are in OpenAPI.
    Raises ValueError if it refers to something that is not in it or to itself without end, or is
    nested too deeply.
    """
    try:
        root = _Modernizer(schema).root
        _refuse_loops(root)
    except RecursionError:
        raise ValueError("not usable: it is nested too deeply") from None
    return root


def inner(schema: Any) -> Iterator[Any]:
    """Yield a schema of draft 2020-12 and all that are in it, its `$defs` included."""
    yield schema
    if isinstance(schema, dict):
        for keyword, value in schema.items():
            if keyword in SCHEMAS:
                yield from inner(value)
            elif keyword in LISTS and isinstance(value, list):
                for each in value:
                    yield from inner(each)
            elif (keyword in MAPS or keyword == "$defs") and isinstance(value, dict):
                for each in value.values():
                    yield from inner(each)


def _refuse_loops(root: dict[str, Any]) -> None:
    """Raise ValueError if a schema refers to itself for the same value, so that no check ends."""
    targets = {f"#/$defs/{name}": each for name, each in root.get("$defs", {}).items()}
    following = {"#": {*_references(root)}}
    following |= {pointer: {*_references(each)} for pointer, each in targets.items()}
    # What refers to nothing that is left is no loop, until nothing else is left.
    while following:
        ends = [pointer for pointer, others in following.items() if not others & following.keys()]
        if not ends:
            raise ValueError("not usable: it refers to itself without end")
        for pointer in ends:
            del following[pointer]


def _references(schema: Any) -> Iterator[str]:
    """Yield the references that apply to the same value as a schema."""
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        yield schema["$ref"]
    for keyword in _IN_PLACE & schema.keys():
        value = schema[keyword]
        if keyword == "dependentSchemas" and isinstance(value, dict):
            value = list(value.values())
        for each in value if isinstance(value, list) else [value]:
            yield from _references(each)


class _Modernizer:
    """Rewrites one document; `root` is the result."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        document = dict(schema)
        self._draft = _draft(document)
        self._places = _Places(document, self._draft)
        # Under each address, what refers to the schema there.
        self._pointers = {id(document): "#"}
        self._defs: dict[str, Schema] = {}
        self._tagged: dict[tuple[int, str], dict[str, Any]] = {}
        self.root: dict[str, Any] = self._schema(document)
        if self._defs:
            self.root["$defs"] = self._defs

    def _schema(self, schema: Any, depth: int = 0) -> Any:
        """Return a schema in draft 2020-12. What is not a schema is returned as it is."""
        if not isinstance(schema, dict):
            return schema
        if depth == _DEEP:
            return {"$ref": self._define("deep", schema)}
        out: dict[str, Any] = {}
        tag = _tag(schema)
        # Up to draft 7, nothing beside a reference counts.
        is_reference = self._draft in _OLD_DRAFTS and "$ref" in schema
        for keyword, value in _renamed(schema).items():
            if keyword in _REFERENCES:
                if keyword != "$ref":
                    self._places.check_static(value)
                self._refer(out, value, self._places.base(schema))
            elif keyword in ("oneOf", "anyOf") and tag and isinstance(value, list):
                out[keyword] = [self._tagged_branch(each, tag, depth + 1) for each in value]
            elif not is_reference:
                self._add(out, keyword, value, depth + 1)
        return _with_null(out) if schema.get("nullable") is True else out

    def _add(self, out: dict[str, Any], keyword: str, value: Any, depth: int) -> None:
        if keyword in SCHEMAS:
            out[keyword] = self._schema(value, depth)
        elif keyword in LISTS and isinstance(value, list):
            inside = [self._schema(each, depth) for each in value]
            out[keyword] = [*out.get(keyword, ()), *inside]
        elif keyword in MAPS and isinstance(value, dict):
            out[keyword] = {name: self._schema(each, depth) for name, each in value.items()}
        elif keyword in VALUES | LISTS | MAPS:
            out[keyword] = value

    def _tagged_branch(self, branch: Any, tag: str, depth: int) -> Any:
        """Return a branch of a union, with the property that tells the branches apart required.

        OpenAPI wants it to be. Pydantic leaves it out of `required` where it has a default, and
        then can't read an answer without it.
        """
        target = branch
        if isinstance(branch, dict) and isinstance(branch.get("$ref"), str):
            target = self._places.find(branch["$ref"], self._places.base(branch))
        if not _declares(target, tag):
            return self._schema(branch, depth)
        key = id(target), tag
        if key not in self._tagged:
            required = {"required": [*target.get("required", ()), tag]}
            self._tagged[key] = self._places.copied(target, required)
            self._define(tag, self._tagged[key])
        return {"$ref": self._pointers[id(self._tagged[key])]}

    def _refer(self, out: dict[str, Any], reference: Any, base: str) -> None:
        """Add a reference to a schema, whose target becomes one of `$defs`."""
        if not isinstance(reference, str):
            raise ValueError(f"not usable: it refers to {reference}, which is not text")
        target = self._places.find(reference, base)
        pointer = self._pointers.get(id(target)) or self._define(reference, target)
        if "$ref" in out:
            out.setdefault("allOf", []).append({"$ref": pointer})
        else:
            out["$ref"] = pointer

    def _define(self, reference: str, target: Schema) -> str:
        """Add a schema to `$defs`, and return the pointer to it."""
        name = self._new_name(reference)
        if isinstance(target, dict):
            self._pointers[id(target)] = f"#/$defs/{name}"
        self._defs[name] = True
        self._defs[name] = self._schema(target)
        return f"#/$defs/{name}"

    def _new_name(self, reference: str) -> str:
        name = re.sub(r"\W+", "_", re.split(r"[/#]", reference)[-1], flags=re.ASCII) or "schema"
        while name in self._defs:
            name += "_"
        return name


class _Places:
    """Where the schemas of a document are, by their ids, anchors and JSON pointers."""

    def __init__(self, document: dict[str, Any], draft: str | None) -> None:
        self._id = "id" if draft in ("draft-03", "draft-04") else "$id"
        self._is_old = draft in _OLD_DRAFTS
        self._dynamic: list[str] = []
        self._by_uri: dict[str, Any] = {"": document}
        self._bases: dict[int, str] = {}
        self._index(document, "")

    def base(self, schema: dict[str, Any]) -> str:
        """Return the URI that references in a schema are relative to."""
        return self._bases.get(id(schema), "")

    def copied(self, schema: dict[str, Any], keywords: dict[str, Any]) -> dict[str, Any]:
        """Return a schema with other keywords, in the place of the first."""
        copy = schema | keywords
        self._bases[id(copy)] = self.base(schema)
        return copy

    def find(self, reference: str, base: str) -> Schema:
        """Return the schema that a reference names. Raises ValueError if there is none."""
        uri, _, fragment = reference.partition("#")
        target = self._by_uri.get(_join(base, uri))
        if fragment.startswith("/"):
            for part in unquote(fragment[1:]).split("/"):
                target = _child(target, part.replace("~1", "/").replace("~0", "~"))
        elif fragment:
            target = self._by_uri.get(f"{_join(base, uri)}#{unquote(fragment)}")
        if target is None:
            raise ValueError(f"not usable: it refers to {reference}, which is not in it")
        if not isinstance(target, (dict, bool)):
            raise ValueError(f"not usable: it refers to {reference}, which is not a schema")
        return target

    def check_static(self, reference: Any) -> None:
        """Raise ValueError if what a `$dynamicRef` names depends on the way to it."""
        name = str(reference).rpartition("#")[2]
        if self._dynamic.count(name) > 1:
            raise ValueError(f"not usable: it has several schemas for the dynamic {reference}")

    def _index(self, part: Any, base: str) -> None:
        if isinstance(part, list):
            for each in part:
                self._index(each, base)
        if not isinstance(part, dict):
            return
        name = part.get(self._id)
        # Up to draft 7, an id that is a fragment is an anchor.
        if not isinstance(name, str) or (self._is_old and "$ref" in part):
            pass
        elif name.startswith("#"):
            self._by_uri[base + name] = part
        else:
            base = _join(base, name.partition("#")[0])
            self._by_uri[base] = part
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(part.get(keyword), str):
                self._by_uri[f"{base}#{part[keyword]}"] = part
        if isinstance(part.get("$dynamicAnchor"), str):
            self._dynamic.append(part["$dynamicAnchor"])
        if part.get("$recursiveAnchor") is True:
            self._dynamic.append("")
        self._bases[id(part)] = base
        for keyword, value in part.items():
            if keyword not in _DATA:
                self._index(value, base)


def _join(base: str, uri: str) -> str:
    if not uri:
        return base
    try:
        return urljoin(base, uri)
    except ValueError:
        return uri


def _child(value: Any, name: str) -> Any:
    """Return what a JSON pointer's next part names in a value, or None."""
    if isinstance(value, list):
        return value[int(name)] if name.isdecimal() and int(name) < len(value) else None
    return value.get(name) if isinstance(value, dict) else None


def _draft(schema: Mapping[str, Any]) -> str | None:
    """Return the draft that a schema names, such as "draft-07", or None."""
    found = re.search(r"json-schema\.org/(draft-0\d)/", str(schema.get("$schema")))
    return found and found[1]


def _renamed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of a schema under their names of draft 2020-12, in their order."""
    out: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "items" and isinstance(value, list):
            out["prefixItems"] = value
            if "additionalItems" in schema:
                out["items"] = schema["additionalItems"]
        elif keyword in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(value, bool):
            bound = keyword.removeprefix("exclusive").lower()
            if value and bound in schema:
                out[keyword] = schema[bound]
        elif keyword in ("minimum", "maximum"):
            if schema.get(f"exclusive{keyword.capitalize()}") is not True:
                out[keyword] = value
        elif keyword == "dependencies" and isinstance(value, dict):
            _split_dependencies(out, value)
        elif keyword == "type":
            out[keyword] = [*map(_lower, value)] if isinstance(value, list) else _lower(value)
        elif isinstance(value, float) and value.is_integer() and keyword in VALUES:
            out[keyword] = int(value)
        elif isinstance(value, dict) and isinstance(out.get(keyword), dict):
            out[keyword] = out[keyword] | value
        else:
            out[keyword] = value
    return out


def _tag(schema: dict[str, Any]) -> str | None:
    """Return the property that tells the branches of a union apart, or None."""
    discriminator = schema.get("discriminator")
    name = discriminator.get("propertyName") if isinstance(discriminator, dict) else None
    return name if isinstance(name, str) else None


def _declares(schema: Any, name: str) -> bool:
    """Whether a schema declares a property without requiring it."""
    if not isinstance(schema, dict):
        return False
    declared, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(declared, dict) or not isinstance(required, list):
        return False
    return name in declared and name not in required


def _split_dependencies(out: dict[str, Any], dependencies: dict[str, Any]) -> None:
    for name, value in dependencies.items():
        keyword = "dependentSchemas" if isinstance(value, (dict, bool)) else "dependentRequired"
        names = [value] if isinstance(value, str) else value
        out[keyword] = {**out.get(keyword, {}), name: names}


def _lower(kind: Any) -> Any:
    """Return a type in small letters: Gemini's own schemas say "STRING"."""
    return kind.lower() if isinstance(kind, str) and kind.isupper() else kind


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that takes null too."""
    kinds = schema.get("type")
    if any(keyword in schema for keyword in APPLY_TO_NULL):
        return {"anyOf": [schema, {"type": "null"}]}
    if kinds is None or kinds == "null" or "null" in kinds:
        return schema
    return schema | {"type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}
