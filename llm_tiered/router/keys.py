"""Whose key it is: which models get the key of a request, which are known, and where to set one."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import llm

from ..endpoints.models import ServerModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from llm.models import _BaseModel

_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)


@dataclass(frozen=True)
class RequestKey:
    """The key that came with a request (`--key`, `key=`), and who may have it.

    `provider` is the name under which llm stores the keys of the models that may (`needs_key`),
    `model` the id of a model that may, whatever it needs.
    """

    value: str
    provider: str | None = None
    model: str | None = None

    def for_model(self, inner: _BaseModel) -> str | None:
        """The key, if this model may have it. Other models use their own, and local ones none."""
        if _is_local(inner):
            return None
        of_provider = self.provider is not None and inner.needs_key == self.provider
        return self.value if of_provider or inner.model_id == self.model else None


def request_key(
    value: str, candidates: Sequence[_BaseModel | None], registered: Iterable[_BaseModel]
) -> RequestKey:
    """Return who may have a key. A candidate is None if llm does not know the model.

    The name of a stored key that some model needs is for the models that need it. Any other value
    is for the model that the request was decided for, which is the first candidate, and for others
    of the same provider, which gets to see the key anyway. Where that model is local, the key can
    only be meant for the cloud: it goes there if all candidates in the cloud have one provider.
    """
    if any(model.needs_key == value for model in registered) and value in stored_keys():
        return RequestKey(value, provider=value)
    decided, *others = candidates
    if decided is None:
        return RequestKey(value)
    if not _is_local(decided):
        return RequestKey(value, decided.needs_key, decided.model_id)
    providers = {model.needs_key if model else None for model in others if not _is_local(model)}
    return RequestKey(value, providers.pop() if len(providers) == 1 else None)


def stored_keys() -> dict[str, str]:
    """Return llm's stored keys by their names, without its note in the file.

    There are none if the file can't be read.
    """
    try:
        keys: dict[str, str] = llm.load_keys()
    except (OSError, ValueError):
        return {}
    if not isinstance(keys, dict):
        return {}
    return {name: key for name, key in keys.items() if not name.startswith("//")}


def known_keys(models: Iterable[_BaseModel] = (), explicit: str | None = None) -> list[str]:
    """Return the explicit key, all of llm's stored keys, and those in the models' variables."""
    stored = stored_keys()
    # `--key` also takes the name of a stored key, and a name is not a secret.
    keys = [explicit if explicit not in stored else None, *stored.values()]
    # `key` is what a program has set on the model itself.
    keys += [os.environ.get(model.key_env_var or "") for model in models]
    for model in models:
        keys += [model.key, *_headers(model)]
    return [key for key in dict.fromkeys(keys) if key and isinstance(key, str)]


def _headers(model: _BaseModel) -> Iterator[str]:
    """The secrets that the user's `extra-openai-models.yaml` sends in the headers of requests."""
    headers = getattr(model, "headers", None)
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if _SECRET_HEADER.search(str(name)):
            # What follows "Bearer" or "Basic".
            yield from str(value).split()[-1:]


def key_fix(model: _BaseModel | None) -> str | None:
    """Return how to set another key for the model, or None if it needs none."""
    if isinstance(model, ServerModel) and not model.needs_key:
        return "llm keys set NAME, and key: NAME in the tier"
    if model is None or not model.needs_key:
        return None
    command = f"llm keys set {model.needs_key}"
    return f"{command}, or {model.key_env_var}" if model.key_env_var else command


def fingerprint(model: _BaseModel, explicit: str | None) -> str | None:
    """Return what tells the key that the model would use from others, or None without one."""
    try:
        key = model.get_key(explicit)
    except (llm.NeedsKeyException, OSError, ValueError):
        return None
    return hashlib.sha256(key.encode()).hexdigest() if key else None


def _is_local(model: _BaseModel | None) -> bool:
    return bool(getattr(model, "runs_here", False))
