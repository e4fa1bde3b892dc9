#!/usr/bin/env bash
# llguidance 1.9.1: a number may be a whole exclusive bound if the other bound is at most 1 away.
#
# `{"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}` excludes 0. The mask for it allows
# "0": for bounds with the same whole part, llguidance makes the decimals of its pattern optional.
# Probabilities that must not be 0 are the usual case. Integers, and bounds further apart, are
# right. Seen:
#
#     0 < x <= 0.5: allows 0
#     1 < x < 1.5: allows 1
#     -0.5 <= x < 0: allows -0
#     0 < x <= 2.5: allows nothing wrong
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'llguidance==1.9.1'
"$folder/bin/python" - <<'PYTHON'
import json

import llguidance

tokens = llguidance.LLTokenizer("byte")


def allows(schema: dict[str, object], text: str) -> bool:
    """Whether the mask for a schema allows a text."""
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
    matcher = llguidance.LLMatcher(tokens, grammar, log_level=0)
    return matcher.consume_tokens(tokens.tokenize_str(text)) and matcher.is_accepting()


cases = [
    ("0 < x <= 0.5", {"exclusiveMinimum": 0, "maximum": 0.5}, "0", True),
    ("1 < x < 1.5", {"exclusiveMinimum": 1, "exclusiveMaximum": 1.5}, "1", True),
    ("-0.5 <= x < 0", {"minimum": -0.5, "exclusiveMaximum": 0}, "-0", True),
    ("0 < x <= 2.5", {"exclusiveMinimum": 0, "maximum": 2.5}, "0", False),
]
for name, bounds, bound, expected in cases:
    wrong = allows({"type": "number", **bounds}, bound)
    print(f"{name}: allows {bound if wrong else 'nothing wrong'}")
    assert wrong == expected
PYTHON
