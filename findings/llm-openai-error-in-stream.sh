#!/usr/bin/env bash
# llm 0.36: an error in a stream of OpenAI's Responses API becomes an empty answer.
#
# A stream can hold an event of the type "error" in place of an answer, for example at a rate limit.
# llm overlooks it: the response ends as if the model had said nothing, and no error is raised. A
# server on loopback answers here. Seen:
#
#     the service said 'Try again in 2s.'; the answer is '', without an error
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

ERROR = {"type": "error", "code": "rate_limit_exceeded", "message": "Try again in 2s."}
ERROR |= {"param": None, "sequence_number": 0}


class OpenAI(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(f"event: error\ndata: {json.dumps(ERROR)}\n\n".encode())


server = HTTPServer(("127.0.0.1", 0), OpenAI)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["OPENAI_BASE_URL"] = f"http://127.0.0.1:{server.server_port}/v1"
text = llm.get_model("gpt-5").prompt("Hello").text()
print(f"the service said {ERROR['message']!r}; the answer is {text!r}, without an error")
assert text == ""
PYTHON
