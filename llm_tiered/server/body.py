"""The bytes of a request → its JSON object, read strictly."""

from __future__ import annotations

import json
from typing import Any

from .failure import bad_request


def parse(data: bytes) -> dict[str, Any]:
    """Return the JSON object that a body holds. Raises ApiError.

    A key that is there twice is an error: one of its values would be dropped, and it might be the
    one that keeps the prompt on this machine.
    """
    try:
        body = json.loads(data, object_pairs_hook=_object, parse_constant=_refuse)
        # Text with half a surrogate pair can't be sent to a service, nor logged.
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeError:
        raise bad_request("the body is not valid Unicode", code="invalid_json") from None
    except RecursionError:
        raise bad_request("the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise bad_request(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object", code="invalid_json")
    return body


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return members


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number of JSON")
