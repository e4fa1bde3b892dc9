"""How many schemas a mask holds alone, and how many it holds with the check.

`python -m tests.mlx.tokens.measure_schemas` measures the schemas of schemas.jsonl in all shapes;
with the folder `tests` of a clone of json-schema-org/JSON-Schema-Test-Suite, those too, of drafts
4 to 2020-12.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import llguidance

from llm_tiered import json_schema
from llm_tiered.errors import RequestError
from llm_tiered.mlx.tokens.structured import compile_schema
from tests.mlx.tokens.schemas import cases

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BYTES: Any = llguidance.LLTokenizer("byte")
DRAFTS = ("draft4", "draft6", "draft7", "draft2019-09", "draft2020-12")
URIS = {f"draft{n}": f"http://json-schema.org/draft-0{n}/schema#" for n in (4, 6, 7)}

# A schema and values, with whether they fit it.
Measured = tuple[dict[str, Any], list[tuple[Any, bool]]]


def own() -> Iterator[Measured]:
    """Yield the schemas of this folder."""
    for case in cases(all_shapes=True):
        right = [(value, True) for value in case.valid + case.closed]
        yield case.schema, right + [(value, False) for value in case.invalid]


def suite(folder: Path) -> Iterator[Measured]:
    """Yield the schemas of the JSON Schema Test Suite that are objects."""
    for draft in DRAFTS:
        for path in sorted((folder / draft).glob("*.json")):
            for group in json.loads(path.read_text("utf-8")):
                schema = group["schema"]
                if isinstance(schema, dict):
                    uri = {"$schema": URIS[draft]} if draft in URIS else {}
                    yield uri | schema, [(each["data"], each["valid"]) for each in group["tests"]]


def written(value: Any) -> Iterator[str]:
    """Yield ways to write a value, since a mask has an order for properties."""
    if isinstance(value, list):
        for parts in itertools.product(*(list(written(each)) for each in value)):
            yield f"[{','.join(parts)}]"
    elif isinstance(value, dict):
        few = len(value) <= 3
        for names in itertools.permutations(value) if few else [tuple(value)]:
            for parts in itertools.product(*(list(written(value[name])) for name in names)):
                pairs = zip(names, parts, strict=True)
                keys = ((json.dumps(name, ensure_ascii=False), part) for name, part in pairs)
                yield "{" + ",".join(f"{key}:{part}" for key, part in keys) + "}"
    else:
        yield json.dumps(value, ensure_ascii=False)
        if isinstance(value, float) and value.is_integer():
            yield str(int(value))


def allows(grammar: Any, value: Any) -> bool:
    """Whether the mask allows a value, in one of its first ways to be written."""
    for text in itertools.islice(written(value), 40):
        tokens = BYTES.tokenize_bytes(text.encode(errors="replace"))
        matcher = grammar.matcher.deep_copy()
        if matcher.validate_tokens(tokens) == len(tokens):
            matcher.consume_tokens(tokens)
            if matcher.is_accepting():
                return True
    return False


def fits(value: Any, schema: dict[str, Any]) -> bool | None:
    """Whether the check accepts a value; None if it can't tell."""
    try:
        return json_schema.mismatch(value, schema) is None
    except Exception:
        return None


def measure(schemas: Iterable[Measured]) -> Counter[str]:
    """Return how many schemas are held by what, with the reasons of those that are refused."""
    counts: Counter[str] = Counter()
    for schema, values in schemas:
        counts["schemas"] += 1
        if any(fits(value, schema) is not is_right for value, is_right in values):
            counts["check is wrong or can't tell"] += 1
        try:
            grammar = compile_schema(schema, BYTES)
        except RequestError as error:
            counts["refused"] += 1
            if any(is_right for _, is_right in values):
                counts["refused, though something fits"] += 1
                counts[f"    {str(error)[:90]}"] += 1
            continue
        counts[f"level {grammar.level}"] += 1
        loose = [value for value, is_right in values if not is_right and allows(grammar, value)]
        if not loose:
            counts["held by the mask alone"] += 1
        elif all(fits(value, schema) is False for value in loose):
            counts["held by mask and check"] += 1
        else:
            counts["held by neither"] += 1
    return counts


def main() -> None:
    """Print the counts."""
    for name, schemas in (
        ("own", own()),
        *(("JSON Schema Test Suite", suite(Path(folder))) for folder in sys.argv[1:]),
    ):
        click.echo(name)
        for reason, count in measure(schemas).most_common(20):
            click.echo(f"{count:6}  {reason}")


if __name__ == "__main__":
    main()
