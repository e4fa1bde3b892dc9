"""Schemas as people use them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llm_tiered.bench import schemas
from llm_tiered.json_schema import check
from llm_tiered.mlx.tokens.structured import compile_schema
from tests.bench.checking import by_name

if TYPE_CHECKING:
    from llm_tiered.bench.parts import Bench


def test_figures(bench: Bench) -> None:
    """Passes per token and decode are measured under 30 schemas."""
    bench.plan = replace(bench.plan, tokens=16)  # the first ones are forced
    figures = by_name(schemas.schemas(bench))
    assert list(figures) == ["schemas_passes", "schemas"]
    assert figures["schemas_passes"].value < 1
    assert str(figures["schemas_passes"].note).startswith("30 schemas")
    assert figures["schemas"].against == "no schema"


def test_schemas_are_held(bench: Bench) -> None:
    """Every schema is valid, and the mask holds all of it."""
    from llm_tiered.mlx.tokens.grammar_tokenizer import make_tokenizer

    tokenizer = make_tokenizer(bench.tokenizer, len(bench.tokenizer.get_vocab()))
    for what, schema in schemas.SCHEMAS.items():
        check(schema)
        assert compile_schema(schema, tokenizer).level == "strict", what
