#!/usr/bin/env bash
# llm-gemini 0.35: a stream that ends without a finish reason counts as a complete answer.
#
# If the connection to Gemini ends early but cleanly, half a sentence is printed and logged like any
# other answer, with exit code 0. A caller has to look for `finishReason` itself. A server on
# loopback answers here. Seen:
#
#     exit code: 0
#     answer: 'The three laws are'
#     logged turns: 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'llm==0.36' 'llm-gemini==0.35'
LLM_USER_PATH="$folder/llm" LLM_GEMINI_KEY=none "$folder/bin/python" - <<'PYTHON'
import json
import os
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
from click.testing import CliRunner
from llm.cli import cli

CONTENT = {"role": "model", "parts": [{"text": "The three laws are"}]}
EVENTS = [{"candidates": [{"content": CONTENT}], "modelVersion": "gemini-3.8-flash"}]


class Gemini(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(EVENTS).encode())


server = HTTPServer(("127.0.0.1", 0), Gemini)
threading.Thread(target=server.serve_forever, daemon=True).start()
address, stream = f"http://127.0.0.1:{server.server_port}", httpx.stream
httpx.stream = lambda method, url, **options: stream(method, address, trust_env=False, **options)
result = CliRunner().invoke(cli, ["-m", "gemini-3.8-flash", "What are the laws of robotics?"])
answer = result.stdout.strip()
log = sqlite3.connect(os.environ["LLM_USER_PATH"] + "/logs.db")
[[turns]] = log.execute("select count(*) from turns").fetchall()
print(f"exit code: {result.exit_code}\nanswer: {answer!r}\nlogged turns: {turns}")
assert (result.exit_code, answer, turns) == (0, "The three laws are", 1)
PYTHON
