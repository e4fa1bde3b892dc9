#!/usr/bin/env bash
# llm 0.36: a new system prompt on a later turn (`llm -c -s`) is not among the prompt's messages.
#
# The documentation calls them exactly what the model is sent. Plugins that build their requests from
# them, such as the one for OpenAI, ignore the new system prompt; those that read prompt.system follow
# it for one turn. The log does not have it either. Hence llm_tiered/instructions.py. Seen, with a
# model that keeps what it is asked:
#
#     turn 2, prompt.system: Answer in French.
#     turn 2, system messages: ['Be brief.']
#     in the log: ['Be brief.']
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

prompts = []


class Toy(llm.Model):
    model_id = "toy"

    def execute(self, prompt, stream, response, conversation):
        prompts.append(prompt)
        yield "Hello"


class Plugin:
    @llm.hookimpl
    def register_models(self, register):
        register(Toy())


pm.register(Plugin())
CliRunner().invoke(cli, ["-m", "toy", "-s", "Be brief.", "Hello"])
CliRunner().invoke(cli, ["-m", "toy", "-c", "-s", "Answer in French.", "And now?"])
later = prompts[1]
sent = [message.parts[0].text for message in later.messages if message.role == "system"]
log = sqlite3.connect(os.environ["LLM_USER_PATH"] + "/logs.db")
query = "select text from parts join messages on hash = message_hash where role = 'system'"
logged = [text for (text,) in log.execute(query)]
print(f"turn 2, prompt.system: {later.system}\nturn 2, system messages: {sent}\nin the log: {logged}")
assert (later.system, sent, logged) == ("Answer in French.", ["Be brief."], ["Be brief."])
PYTHON
