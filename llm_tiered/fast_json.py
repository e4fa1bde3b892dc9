"""JSON for what passes once for each token, with the parser that pydantic has.

It takes a tenth of the time of Python's own, which does what it refuses: text with half of a
surrogate pair, as a model can write it in the arguments of a tool.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json, to_json


def dumps(value: Any) -> bytes:
    """Return plain data as JSON on one line."""
    try:
        return to_json(value)
    except ValueError:
        return json.dumps(value).encode()


def loads(data: bytes) -> Any:
    """Return the value of JSON. Raises ValueError."""
    try:
        return from_json(data)
    except ValueError:
        return json.loads(data)
