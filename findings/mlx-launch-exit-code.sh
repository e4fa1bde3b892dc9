#!/usr/bin/env bash
# mlx 0.32.4: `mlx.launch` exits with 0 if one of its processes fails.
#
# A server that runs on several machines is gone once one of them fails, and whoever has started it
# sees success: a supervisor does not start it again. So llm-tiered looks at the server itself, and
# never at the process. Seen on Linux with the ring backend on one machine:
#
#     rank 1 fails
#     [WARN] Node with rank 1 exited with code 3
#     exit code of mlx.launch: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'mlx[cpu]==0.32.4'
cat > "$folder/rank.py" <<'PYTHON'
import os
import sys

if os.environ["MLX_RANK"] == "1":
    print("rank 1 fails", flush=True)
    sys.exit(3)
PYTHON
code=0
"$folder/bin/mlx.launch" -n 2 --backend ring -- "$folder/bin/python" "$folder/rank.py" || code=$?
echo "exit code of mlx.launch: $code"
test "$code" = 0
