#!/usr/bin/env bash
# jsonschema 4.26.0: 4.35 is not a multiple of 0.01. llguidance 1.9.1: it is.
#
# jsonschema divides binary floating-point numbers, llguidance checks decimal digits. So an answer
# that was generated under the mask of llguidance, and is right in decimal, can fail the check with
# jsonschema: prices are the usual case. Seen:
#
#     4.35: llguidance accepts it, jsonschema does not
#     19.99: llguidance accepts it, jsonschema does not
#     4.25: llguidance accepts it, jsonschema accepts it
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'jsonschema==4.26.0' 'llguidance==1.9.1'
"$folder/bin/python" - <<'PYTHON'
import json

import jsonschema
import llguidance

schema = {"type": "number", "multipleOf": 0.01}
tokens = llguidance.LLTokenizer("byte")
grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
words = {True: "accepts it", False: "does not"}
seen = {}
for text in ("4.35", "19.99", "4.25"):
    matcher = llguidance.LLMatcher(tokens, grammar)
    masked = matcher.consume_tokens(tokens.tokenize_str(text)) and matcher.is_accepting()
    valid = jsonschema.Draft202012Validator(schema).is_valid(json.loads(text))
    print(f"{text}: llguidance {words[masked]}, jsonschema {words[valid]}")
    seen[text] = (masked, valid)
assert seen == {"4.35": (True, False), "19.99": (True, False), "4.25": (True, True)}
PYTHON
