#!/usr/bin/env bash
# mlx-lm 0.32.2: its parser for Qwen3-Coder's tool calls reads an argument by its top-level type.
#
# The format has no types, so the tool's schema must tell 2026 from "2026". The parser looks only at
# the property's own `type`: an optional integer, as Pydantic writes it, stays a string, a string
# that may be null becomes a number, and the word null is None even for a string. Seen:
#
#     {"anyOf": [{"type": "integer"}, {"type": "null"}]}: 5 becomes '5'
#     {"type": ["string", "null"]}: 2026 becomes 2026
#     {"type": "string"}: null becomes None
#     {"type": "boolean"}: yes becomes False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'mlx-lm==0.32.2' 'mlx[cpu]==0.32.4'
"$folder/bin/python" - <<'PYTHON'
import json

from mlx_lm.tool_parsers.qwen3_coder import parse_tool_call

seen = []
for schema, text in (
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "5"),
    ({"type": ["string", "null"]}, "2026"),
    ({"type": "string"}, "null"),
    ({"type": "boolean"}, "yes"),
):
    parameters = {"type": "object", "properties": {"a": schema}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    call = f"<function=f>\n<parameter=a>\n{text}\n</parameter>\n</function>"
    value = parse_tool_call(call, tools)["arguments"]["a"]
    print(f"{json.dumps(schema)}: {text} becomes {value!r}")
    seen.append(value)
assert seen == ["5", 2026, None, False], seen
PYTHON
