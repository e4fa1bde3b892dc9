#!/usr/bin/env bash
# mlx 0.32.4: on a CPU, `mx.async_eval` waits for the computation if it gets more than some 40 arrays.
#
# mlx-lm takes the log-probabilities of a batch apart, an array for each request, and hands all of
# them to `mx.async_eval` to compute the next step while the last one's tokens are passed on. From
# about 40 requests on, nothing is computed meanwhile. So llm-tiered has one array for all requests.
# The share of the time that `mx.async_eval` takes, for a product of matrices and rows of it:
#
#     16 rows: 0.00
#     64 rows: 1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'mlx[cpu]==0.32.4'
cat > "$folder/share.py" <<'PYTHON'
import statistics
import time

import mlx.core as mx

mx.set_default_device(mx.cpu)
matrix = mx.random.normal((1200, 1200))
mx.eval(matrix)


def share(number):
    """Return the share of the time of all that passes until async_eval returns."""
    product = matrix @ matrix
    rows = [product[row] for row in range(number)]
    started = time.perf_counter()
    mx.async_eval(product, *rows)
    queued = time.perf_counter() - started
    mx.eval(product, *rows)
    return queued / (time.perf_counter() - started)


share(1)
shares = {number: statistics.median(share(number) for _ in range(5)) for number in (16, 64)}
for number, value in shares.items():
    print(f"{number} rows: {value:.2f}")
assert shares[16] < 0.2 and shares[64] > 0.8
PYTHON
"$folder/bin/python" "$folder/share.py"
