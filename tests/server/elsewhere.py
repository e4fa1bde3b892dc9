"""Servers on addresses of a host, until stdin ends.

`python -m tests.server.elsewhere ADDRESS…`: their ports are printed as JSON. All but the one
on loopback have a key.
"""

from __future__ import annotations

import json
import sys

from llm_tiered.server.access import Key, access_rules, is_loopback
from tests.server.conftest import KEY, start

if __name__ == "__main__":
    servers = []
    for address in sys.argv[1:]:
        keys = () if is_loopback(address) else (Key("laptop", KEY),)
        servers.append(start(access_rules(address, address, keys), address))
    sys.stdout.write(json.dumps([server.port for server in servers]) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    for server in servers:
        server.end()
