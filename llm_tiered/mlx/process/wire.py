"""Requests and events as JSON: what goes through the socket between a caller and the engine."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ... import errors, fast_json
from ...errors import EngineError, TieredError
from ..engine import requests
from ..engine.kv_disk import KvStore
from ..engine.requests import GenerationRequest
from ..tokens import decoding, logprobs, messages, tools

if typing.TYPE_CHECKING:
    from ..engine.requests import Event

# Types that JSON has.
_WRITTEN = frozenset({str, int, float, bool})

HEARTBEAT = b"{}\n"
"""The line that says only that the engine is alive."""

# What the annotations of the classes mean: their modules import some of it for types only.
_NAMES: dict[str, Any] = {
    **{
        name: value
        for module in (requests, decoding, logprobs, tools)
        for name, value in vars(module).items()
        if dataclasses.is_dataclass(value)
    },
    **{name: getattr(typing, name) for name in ("Any", "Literal")},
    **{"Mapping": Mapping, "Path": Path, "KvStore": KvStore, "TieredError": TieredError},
    "ChatMessage": messages.ChatMessage,
}


def dump_request(request: GenerationRequest) -> Any:
    """Return a request as plain JSON data. Raises TypeError if a part of it can't be written."""
    return _plain(request)


def load_request(data: Any) -> GenerationRequest:
    """Return the request that `dump_request` has made. Raises ValueError."""
    if not isinstance(data, dict):
        raise ValueError("not a request")
    try:
        request: GenerationRequest = _value(data, GenerationRequest)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a request: {error}") from None
    return request


def dump_event(event: Event) -> bytes:
    """Return an event as a line of JSON."""
    return fast_json.dumps({"event": type(event).__name__, **_plain(event)}) + b"\n"


def load_event(line: bytes) -> Event | None:
    """Return the event of a line, or None for a heartbeat. Raises ValueError."""
    data = fast_json.loads(line)
    if not data:
        return None
    try:
        event: Event = _value(data, _NAMES[data["event"]])
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not an event: {error}") from None
    return event


def _plain(value: Any) -> Any:
    """Return a value as plain JSON data, without fields that have their default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            name: _plain(part)
            for name, default in _defaults(type(value))
            if (part := getattr(value, name)) is not default
        }
    if type(value) in _WRITTEN:
        return value
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, Path):
        # The engine has another working directory.
        return str(value.absolute())
    if isinstance(value, TieredError):
        return {"class": type(value).__name__, "message": value.message, "fix": value.fix}
    return value


def _value(data: Any, hint: Any) -> Any:
    """Return plain data as a value of a type. What it does not know is left as it is."""
    if data is None or hint in _WRITTEN:
        return data
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = _hints(hint)
        return hint(
            **{name: _value(part, hints[name]) for name, part in data.items() if name in hints}
        )
    if hint is Path:
        return Path(data)
    if hint is TieredError:
        return _error(**data)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [each for each in arguments if each is not type(None)]
        return _value(data, inner[0]) if len(inner) == 1 else data
    if origin is tuple:
        kinds = arguments[:1] * len(data) if arguments[1:] == (...,) else arguments
        return tuple(_value(part, kind) for part, kind in zip(data, kinds, strict=True))
    return data


@cache
def _defaults(kind: type) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.default) for field in dataclasses.fields(kind))


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the fields of a dataclass with their types."""
    hints = typing.get_type_hints(kind, localns=_NAMES)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _error(**said: Any) -> TieredError:
    kind = getattr(errors, str(said["class"]), EngineError)
    if not (isinstance(kind, type) and issubclass(kind, TieredError)):
        kind = EngineError
    return kind(str(said["message"]), fix=said["fix"])
