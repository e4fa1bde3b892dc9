#!/usr/bin/env bash
# llm 0.36: a streamed reply of OpenAI's Responses API that is not complete loses its usage.
#
# At the limit of tokens the last event of the stream is "response.incomplete", not
# "response.completed", and llm reads only the latter. The text is printed and logged like any other
# answer, without a status that would tell them apart and without the tokens, which are billed. A
# server on loopback answers here. Seen:
#
#     completed: 'Hello', status 'completed', 5 output tokens
#     incomplete: 'Hello', status None, None output tokens
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'llm==0.36' 'openai==3.57.0'
LLM_USER_PATH="$folder/llm" OPENAI_API_KEY=none "$folder/bin/python" - <<'PYTHON'
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import llm

DELTA = {"type": "response.output_text.delta", "delta": "Hello", "item_id": "m", "logprobs": []}
DELTA |= {"output_index": 0, "content_index": 0, "sequence_number": 0}
REPLY = {"id": "r", "object": "response", "created_at": 1, "model": "gpt-5", "output": []}
REPLY |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
COUNTS = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
COUNTS |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
how = ""


class OpenAI(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        last = {"type": f"response.{how}", "response": REPLY | {"status": how, "usage": COUNTS}}
        for event in (DELTA, last | {"sequence_number": 1}):
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())


server = HTTPServer(("127.0.0.1", 0), OpenAI)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["OPENAI_BASE_URL"] = f"http://127.0.0.1:{server.server_port}/v1"
seen = {}
for how in ("completed", "incomplete"):
    response = llm.get_model("gpt-5").prompt("Hello", max_tokens=5)
    status = (response.json() or {}).get("status")
    seen[how] = (status, response.usage().output)
    print(f"{how}: {response.text()!r}, status {status!r}, {response.usage().output} output tokens")
assert seen == {"completed": ("completed", 5), "incomplete": (None, None)}
PYTHON
