#!/usr/bin/env bash
# llguidance 1.9.1: an integer that no 64-bit float represents is rounded in an enum or a const.
#
# JSON Schema compares integers exactly. llguidance reads them as 64-bit floats, so its mask rejects
# the value of the schema and accepts only its neighbour, and an answer made under the mask is wrong.
# Ids beyond 2**53 are the usual case. Here such a schema is refused for local models. Seen:
#
#     9007199254740991: accepts 9007199254740991
#     9007199254740993: accepts 9007199254740992
#     9007199254740995: accepts 9007199254740996
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'llguidance==1.9.1'
"$folder/bin/python" - <<'PYTHON'
import json

import llguidance

tokens = llguidance.LLTokenizer("byte")


def accepted(value: int) -> list[int]:
    """The integers near a value that the mask for an enum of that value accepts."""
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps({"enum": [value]}))
    matches = []
    for candidate in range(value - 2, value + 3):
        matcher = llguidance.LLMatcher(tokens, grammar, log_level=0)
        if matcher.consume_tokens(tokens.tokenize_str(str(candidate))) and matcher.is_accepting():
            matches.append(candidate)
    return matches


expected = {2**53 - 1: 2**53 - 1, 2**53 + 1: 2**53, 2**53 + 3: 2**53 + 4}
for value, neighbour in expected.items():
    print(f"{value}: accepts {', '.join(map(str, accepted(value)))}")
    assert accepted(value) == [neighbour]
PYTHON
