#!/usr/bin/env bash
# genai-prices 0.2.3: what a model has no price for costs nothing, without a word.
#
# A thousand searches of a model whose list has no price for them add nothing to the total, and a
# usage report with a misspelt key is read without it. A caller has to compare the units with the
# prices, and the report with what the extractor reads. Seen:
#
#     1,000 searches of claude-sonnet-4-5: $10
#     1,000 searches of gpt-3.5-turbo: $0
#     tokens out of the cache, misspelt: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'genai-prices==0.2.3'
"$folder/bin/python" - <<'PYTHON'
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot

costs = []
for provider, model in (("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-3.5-turbo")):
    cost = calc_price(Usage(web_searches=1000), model, provider_id=provider).total_price
    costs.append(int(cost))
    print(f"1,000 searches of {model}: ${cost:.0f}")
reply = {
    "model": "claude-sonnet-4-5",
    "usage": {"input_tokens": 1, "output_tokens": 1, "cache_read_inputs_tokens": 50_000},
}
usage = get_snapshot().extract_usage(reply, provider_id="anthropic").usage
print(f"tokens out of the cache, misspelt: {usage.cache_read_tokens}")
assert (costs, usage.cache_read_tokens) == ([10, 0], 0)
PYTHON
