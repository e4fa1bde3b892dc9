#!/usr/bin/env bash
# mlx-lm 0.32.2: importing it sets the limit of open files to 2048, even if it was higher.
#
# A server or a batch that needs more files fails later, far from the import. Reported as
# ml-explore/mlx-lm#1589. Seen on Linux with the CPU backend:
#
#     before: 4000
#     after: 2048
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'mlx-lm==0.32.2' 'mlx[cpu]==0.32.4'
"$folder/bin/python" - <<'PYTHON'
import resource

limit = resource.RLIMIT_NOFILE
hard = resource.getrlimit(limit)[1]
resource.setrlimit(limit, (4000, hard))
print("before:", resource.getrlimit(limit)[0])
import mlx_lm

print("after:", resource.getrlimit(limit)[0])
assert resource.getrlimit(limit)[0] == 2048
PYTHON
