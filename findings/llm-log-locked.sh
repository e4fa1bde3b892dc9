#!/usr/bin/env bash
# llm 0.36: of several processes that log at the same time, some fail with "database is locked".
#
# A transaction of the log begins by reading, and writes later. If another process has written in
# between, SQLite refuses that at once, without waiting. The answer was shown, but is not in the log.
# A transaction that begins with `begin immediate` waits for its turn. Seen, of four processes:
#
#     sqlite3.OperationalError: database is locked
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'llm==0.36'
cat >"$folder/log.py" <<'PYTHON'
import sys

import llm
import sqlite_utils


class Model(llm.Model):
    model_id = "model"

    def execute(self, prompt, stream, response, conversation):
        yield "answer"


log = sqlite_utils.Database(sys.argv[1])
for number in range(100):
    response = Model().prompt(f"{sys.argv[2]} {number}")
    response.text()
    response.log_to_db(log)
PYTHON
LLM_LOAD_PLUGINS='' "$folder/bin/python" - "$folder" <<'PYTHON'
import subprocess
import sys

import sqlite_utils
from llm.migrations import migrate

folder = sys.argv[1]
path = f"{folder}/logs.db"
migrate(sqlite_utils.Database(path))
writers = [
    subprocess.Popen(
        [sys.executable, f"{folder}/log.py", path, str(number)],
        stderr=subprocess.PIPE,
        text=True,
    )
    for number in range(4)
]
errors = [writer.communicate()[1].strip().rpartition("\n")[2] for writer in writers]
failed = sorted({error for error in errors if error})
print("\n".join(failed))
assert failed == ["sqlite3.OperationalError: database is locked"], errors
PYTHON
