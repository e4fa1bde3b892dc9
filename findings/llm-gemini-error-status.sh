#!/usr/bin/env bash
# llm-gemini 0.35: of an error, only the message is handed on: no status, no time to wait.
#
# Gemini's 429 has a RetryInfo and the name of the quota, which tells a limit per minute from one per
# day. llm-gemini raises llm.ModelError with the message alone. If the error is an object and not in a
# list, as from a proxy, even the message is lost. A caller who wants to wait as long as it is told
# has to see the HTTP response itself. A server on loopback answers here. Seen:
#
#     429 in a list: ModelError('Quota exceeded.'), status known: False
#     413 as an object: IndexError('list index out of range'), status known: False
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
import llm

DELAY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"}
QUOTA = {"error": {"code": 429, "message": "Quota exceeded.", "details": [DELAY]}}
LARGE = {"error": {"code": 413, "message": "Request payload size exceeds the limit."}}
ERRORS = iter([(429, [QUOTA]), (413, LARGE)])


class Gemini(BaseHTTPRequestHandler):
    def do_POST(self):
        status, body = next(ERRORS)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


server = HTTPServer(("127.0.0.1", 0), Gemini)
threading.Thread(target=server.serve_forever, daemon=True).start()
address, stream = f"http://127.0.0.1:{server.server_port}", httpx.stream
httpx.stream = lambda method, url, **options: stream(method, address, trust_env=False, **options)
seen = []
for case in ("429 in a list", "413 as an object"):
    try:
        llm.get_model("gemini-3.8-flash").prompt("Hello").text()
    except Exception as error:
        seen.append((repr(error), hasattr(error, "status_code") or hasattr(error, "response")))
        print(f"{case}: {error!r}, status known: {seen[-1][1]}")
assert seen == [
    ("ModelError('Quota exceeded.')", False),
    ("IndexError('list index out of range')", False),
]
PYTHON
