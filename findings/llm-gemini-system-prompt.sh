#!/usr/bin/env bash
# llm 0.36 with llm-gemini 0.35: `llm -c` does not send the conversation's system prompt to Gemini.
#
# On later turns llm gives a model the system prompt only as a message, and llm-gemini reads it only
# from `prompt.system`. A model that passes prompts on must move it there. A server on
# loopback answers here. Seen, for the first and the second turn:
#
#     systemInstruction: {'parts': [{'text': 'Answer in French'}]}
#     systemInstruction: None
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'llm==0.36' 'llm-gemini==0.35'
LLM_USER_PATH="$folder/llm" LLM_GEMINI_KEY=none "$folder/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
from click.testing import CliRunner
from llm.cli import cli

CANDIDATE = {"content": {"role": "model", "parts": [{"text": "Oui"}]}, "finishReason": "STOP"}
EVENTS = [{"candidates": [CANDIDATE], "modelVersion": "gemini-3.8-flash"}]
bodies = []


class Gemini(BaseHTTPRequestHandler):
    def do_POST(self):
        bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(EVENTS).encode())


server = HTTPServer(("127.0.0.1", 0), Gemini)
threading.Thread(target=server.serve_forever, daemon=True).start()
address, stream = f"http://127.0.0.1:{server.server_port}", httpx.stream
httpx.stream = lambda method, url, **options: stream(method, address, trust_env=False, **options)
for words in (["-m", "gemini-3.8-flash", "-s", "Answer in French", "Really?"], ["-c", "Sure?"]):
    assert CliRunner().invoke(cli, words).exit_code == 0
for body in bodies:
    print("systemInstruction:", body.get("systemInstruction"))
first, second = map(json.dumps, bodies)
assert "Answer in French" in first
assert "Answer in French" not in second
PYTHON
