#!/usr/bin/env bash
# mlx-lm 0.32.2: on a CPU, a step of a large batch is over when BatchGenerator.next() returns.
#
# It queues the next step and then takes its log-probabilities apart, with an operation for each
# sequence. MLX has room for about a hundred operations in the queue of a CPU, and waits to add
# more: with those of 64 sequences at the end, the model's are done by then. Nothing is computed
# while the caller hands on 64 tokens. Here, one operation serves all sequences. Seen on Linux:
#
#      8 sequences: 21% of a step is still to be computed
#     64 sequences: 0% of a step is still to be computed
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'mlx-lm==0.32.2' 'mlx[cpu]==0.32.4'
"$folder/bin/python" - <<'PYTHON'
import statistics
import time

import mlx.core as mx
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.qwen2 import Model, ModelArgs

mx.set_default_device(mx.cpu)
model = Model(
    ModelArgs(
        model_type="qwen2", hidden_size=128, intermediate_size=256, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, rms_norm_eps=1e-6, vocab_size=1024,
        tie_word_embeddings=False,
    )
)
mx.eval(model.parameters())

left = {}
for count in (8, 64):
    generator = BatchGenerator(model, completion_batch_size=count, prefill_batch_size=count)
    generator.insert([[1, 2, 3]] * count, [100] * count)
    steps, rest = [], []
    for _ in range(60):
        started = time.perf_counter()
        _, responses = generator.next()
        returned = time.perf_counter()
        mx.synchronize(generator.stream)
        if len(responses) == count:
            steps.append(time.perf_counter() - started)
            rest.append(time.perf_counter() - returned)
    left[count] = statistics.median(rest) / statistics.median(steps)
    print(f"{count:2} sequences: {left[count]:.0%} of a step is still to be computed")
assert left[64] < 0.1 < left[8]
PYTHON
