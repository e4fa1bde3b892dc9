#!/usr/bin/env bash
# llm 0.36: if a chain of tool calls fails, none of its turns is logged.
#
# The command line logs a chain when all of it is done. The turns that were answered, and paid for,
# before the error are lost, so costs that are counted from the log are too low. Seen, with a model
# that calls a tool in its first turn and fails in its second:
#
#     answered turns: 1
#     exit code: 1
#     logged turns: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'llm==0.36'
LLM_USER_PATH="$folder/llm" "$folder/bin/python" - <<'PYTHON'
import os
import sqlite3

import llm
from click.testing import CliRunner
from llm.cli import cli
from llm.plugins import pm

answered = []


class Toy(llm.Model):
    model_id = "toy"
    supports_tools = True

    def execute(self, prompt, stream, response, conversation):
        if prompt.tool_results:
            raise llm.ModelError("overloaded")
        answered.append(response)
        response.add_tool_call(llm.ToolCall(name="llm_version", arguments={}, tool_call_id="1"))
        yield "Looking it up"


class Plugin:
    @llm.hookimpl
    def register_models(self, register):
        register(Toy())


pm.register(Plugin())
result = CliRunner().invoke(cli, ["-m", "toy", "-T", "llm_version", "Which version is this?"])
log = sqlite3.connect(os.environ["LLM_USER_PATH"] + "/logs.db")
[[turns]] = log.execute("select count(*) from turns").fetchall()
print("answered turns:", len(answered))
print(f"exit code: {result.exit_code}\nlogged turns: {turns}")
assert (len(answered), result.exit_code, turns) == (1, 1, 0)
PYTHON
