#!/usr/bin/env bash
# llm 0.36: a response that is logged before it is read is logged without its answer and tokens.
#
# log_to_db does not wait for the answer. It is the duration, which is asked for last, that runs the
# model, inside the open transaction. So whatever the model's plugin writes to the log meanwhile
# waits for a lock that its own thread holds. Hence llm_tiered/log/callers.py. Seen:
#
#     answer: 'Hello'
#     logged: answer None, tokens None, while the model ran in an open transaction: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'llm==0.36'
LLM_USER_PATH="$folder/llm" "$folder/bin/python" - <<'PYTHON'
import llm
import sqlite_utils

database = sqlite_utils.Database(llm.user_dir() / "logs.db")
inside = []


class Toy(llm.Model):
    model_id = "toy"

    def execute(self, prompt, stream, response, conversation):
        inside.append(database.conn.in_transaction)
        response.set_usage(input=3, output=1)
        yield "Hello"


response = Toy().prompt("Say hello")
response.log_to_db(database)
print(f"answer: {response.text()!r}")
[(tokens, parent, tip)] = database.execute(
    "select output_tokens, parent_message_hash, tip_message_hash from turns"
).fetchall()
answer = None if parent == tip else tip
print(f"logged: answer {answer}, tokens {tokens}, while the model ran in an open transaction: {inside[0]}")
assert (answer, tokens, inside) == (None, None, [True])
PYTHON
