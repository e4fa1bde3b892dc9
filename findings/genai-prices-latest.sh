#!/usr/bin/env bash
# genai-prices 0.2.3: `gemini-flash-latest` has the price of Gemini 3.8 Flash.
#
# Google moves the alias from model to model, but the package resolves it to the one that was
# current when the package was released. To price a logged request, use the model in the
# `modelVersion` of the reply, not the alias. Seen:
#
#     gemini-flash-latest: gemini-3.8-flash
#     gemini-pro-latest: gemini-3.1-pro-preview
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'genai-prices==0.2.3'
"$folder/bin/python" - <<'PYTHON'
from genai_prices import Usage, calc_price

usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
models = {}
for alias in ("gemini-flash-latest", "gemini-pro-latest"):
    models[alias] = calc_price(usage, alias, provider_id="google").model.id
    print(f"{alias}: {models[alias]}")
assert models == {
    "gemini-flash-latest": "gemini-3.8-flash",
    "gemini-pro-latest": "gemini-3.1-pro-preview",
}
PYTHON
