#!/usr/bin/env bash
# llm-gemini 0.35: the tokens of a reply count only if all of it was read, and searches never do.
#
# Every event of Gemini's stream says how many tokens were used so far. Whoever stops reading, or
# loses the connection, has paid for them, but the response has no usage. Of the metadata of
# Google's search tool, which is charged for by the query, the last event's are kept, and here the
# first one has them. A budget has to look into the events. A server on loopback answers. Seen:
#
#     after the first words: input=None output=None
#     after all of them: input=7 output=100000
#     searches in the reply that is kept: None
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


def event(text, **candidate):
    content = {"role": "model", "parts": [{"text": text}]}
    return {
        "candidates": [{"content": content} | candidate],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 100_000},
        "modelVersion": "gemini-3.8-flash",
    }


SEARCHES = {"webSearchQueries": ["laws of robotics", "Asimov"]}
EVENTS = [event("The three ", groundingMetadata=SEARCHES), event("laws", finishReason="STOP")]


class Gemini(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(EVENTS).encode())


server = HTTPServer(("127.0.0.1", 0), Gemini)
threading.Thread(target=server.serve_forever, daemon=True).start()
address, stream = f"http://127.0.0.1:{server.server_port}", httpx.stream
httpx.stream = lambda method, url, **options: stream(method, address, trust_env=False, **options)
model = llm.get_model("gemini-3.8-flash")
part, whole = (model.prompt("What are the laws of robotics?") for _ in range(2))
next(iter(part))
whole.text()
kept = whole.response_json["candidates"][0].get("groundingMetadata")
print(f"after the first words: input={part.input_tokens} output={part.output_tokens}")
print(f"after all of them: input={whole.input_tokens} output={whole.output_tokens}")
print(f"searches in the reply that is kept: {kept}")
assert (part.input_tokens, whole.input_tokens, kept) == (None, 7, None)
PYTHON
