#!/usr/bin/env bash
# mlx-lm 0.32.2: a lookup in LRUPromptCache takes four times as long for twice the tokens.
#
# It happens if an entry goes on beyond what it has in common with the prompt, as when a chat
# template leaves out earlier reasoning, or two conversations share a system prompt. The search for
# the shortest such entry copies a list for each token. mlx_lm.server does one lookup per request.
# Here, our own prefix cache compares slices. Seen on Linux with the CPU backend:
#
#     5,000 tokens: 0.02 s
#     10,000 tokens: 0.08 s
#     20,000 tokens: 0.64 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'mlx-lm==0.32.2' 'mlx[cpu]==0.32.4'
"$folder/bin/python" - <<'PYTHON'
import time

import mlx.core as mx
from mlx_lm.models.cache import KVCache, LRUPromptCache

seconds = {}
for count in (5_000, 10_000, 20_000):
    layer = KVCache()
    layer.keys = layer.values = mx.zeros((1, 1, count, 4))
    layer.offset = count
    cache = LRUPromptCache()
    cache.insert_cache("model", list(range(count)), [layer])
    # The first 50 tokens are those of the entry.
    prompt = [*range(50), count]
    times = []
    for _ in range(3):
        started = time.perf_counter()
        found, rest = cache.fetch_nearest_cache("model", prompt)
        times.append(time.perf_counter() - started)
    assert len(rest) == 1
    seconds[count] = min(times)
    print(f"{count:,} tokens: {seconds[count]:.2f} s")
assert seconds[10_000] > 3 * seconds[5_000]
assert seconds[20_000] > 3 * seconds[10_000]
PYTHON
