"""An HTTP server on loopback, for tests."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], release: threading.Event) -> Iterator[int]:
    """Serve on a free port, which it gives. At the end `release` is set, and all threads end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    # Its threads are joined on closing, so that none outlives a test.
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        release.set()
        server.shutdown()
        thread.join()
        server.server_close()
