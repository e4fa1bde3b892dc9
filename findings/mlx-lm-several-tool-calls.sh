#!/usr/bin/env bash
# mlx-lm 0.32.2: of two tool calls between one pair of markers, its parsers lose one or both.
#
# The one for Qwen3-Coder's format makes a single call of them, with the first name and the last
# value of each argument, and says nothing. The one for JSON raises an error. Seen:
#
#     qwen3_coder: {'name': 'send', 'arguments': {'to': 'Ben'}}
#     json_tools: JSONDecodeError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'mlx-lm==0.32.2' 'mlx[cpu]==0.32.4'
"$folder/bin/python" - <<'PYTHON'
import json

from mlx_lm.tool_parsers import json_tools, qwen3_coder

names = ("Ann", "Ben")
tagged = "\n".join(
    f"<function=send>\n<parameter=to>\n{name}\n</parameter>\n</function>" for name in names
)
call = qwen3_coder.parse_tool_call(tagged)
print("qwen3_coder:", call)
assert call == {"name": "send", "arguments": {"to": "Ben"}}
objects = "\n".join(json.dumps({"name": "send", "arguments": {"to": name}}) for name in names)
try:
    print("json_tools:", json_tools.parse_tool_call(objects))
except ValueError as error:
    print("json_tools:", type(error).__name__)
else:
    raise SystemExit("json_tools reads both")
PYTHON
