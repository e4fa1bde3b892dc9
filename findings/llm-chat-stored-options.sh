#!/usr/bin/env bash
# llm 0.36: `llm chat -o` drops all options that are stored for the model.
#
# `llm models options set` stores options that a user always wants. `llm prompt` adds those of the
# command to them, but `llm chat` with any option of its own uses these alone. Seen, with a stored
# `private` and `-o size 3`:
#
#     prompt: private=True size=3
#     chat: private=None size=3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'llm==0.36'
LLM_USER_PATH="$folder/llm" "$folder/bin/python" - <<'PYTHON'
import llm
from click.testing import CliRunner
from llm.cli import cli
from llm.plugins import pm


class Toy(llm.Model):
    model_id = "toy"

    class Options(llm.Options):
        private: bool | None = None
        size: int | None = None

    def execute(self, prompt, stream, response, conversation):
        yield f"private={prompt.options.private} size={prompt.options.size}"


class Plugin:
    @llm.hookimpl
    def register_models(self, register):
        register(Toy())


pm.register(Plugin())
run = CliRunner().invoke
run(cli, ["models", "options", "set", "toy", "private", "true"])
seen = {
    "prompt": run(cli, ["-m", "toy", "-o", "size", "3", "Hello"]).output,
    "chat": run(cli, ["chat", "-m", "toy", "-o", "size", "3"], input="Hello\nquit\n").output,
}
for command, output in seen.items():
    [answer] = [line for line in output.splitlines() if "private=" in line]
    seen[command] = answer
    print(f"{command}: {answer}")
assert seen == {"prompt": "private=True size=3", "chat": "private=None size=3"}
PYTHON
