"""Settings as they would be: those of another file, or with single values changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..paths import config_path
from ..wording import unknown
from .file import parse
from .sections import Config
from .settings import settings_of
from .values import Span, parse_span

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .settings import Settings


def changed_settings(path: Path | None, changes: Sequence[str]) -> Settings:
    """Return the settings of a config file, the user's own by default, with values changed.

    A change is `KEY=VALUE`, where the key is a path such as `tiers.medium.complexity` and the value
    is YAML. Entries of lists go by their names, or by their numbers from 1. Neighbours make room
    for a tier whose range changes. Raises ConfigError.
    """
    own = config_path()
    document = parse(path or own) if path or own.exists() else {}
    where = str(path or own) if path or own.exists() else "the default config"
    before = _spans(document.get("tiers", Config().model_dump(mode="json")["tiers"]))
    ranges: dict[str, Span] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--set {change}: not a key and a value",
                fix="--set KEY=VALUE, such as tiers.medium.complexity=4-8",
            )
        keys, value = key.strip().split("."), _yaml(change, text)
        _set(document, keys, value, change)
        ranges |= _range_in(document, keys, change)
    _make_room(document, ranges, before)
    if changes:
        where = f"{where} with --set {' --set '.join(changes)}"
    return settings_of(document, where)


def _yaml(change: str, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError):
        raise ConfigError(f"--set {change}: the value is not valid YAML") from None


def _range_in(document: dict[str, Any], keys: Sequence[str], change: str) -> dict[str, Span]:
    """The tier whose range a change has set, by its name, with the range."""
    tiers = document.get("tiers")
    if keys[0] != "tiers" or keys[2:] not in ([], ["complexity"]) or not isinstance(tiers, list):
        return {}
    named = [tier for tier in tiers if isinstance(tier, dict) and str(tier.get("name")) == keys[1]]
    if not named and keys[2:]:
        named = [tiers[_place(tiers, keys[1], "tiers", change)]]
    tier = named[0] if named else {}
    if not isinstance(tier.get("complexity"), (str, int)):
        return {}
    try:
        return {str(tier.get("name")): parse_span(tier["complexity"])}
    except ValueError as error:
        raise ConfigError(f"--set {change}: {error}") from None


def _set(document: dict[str, Any], keys: Sequence[str], value: Any, change: str) -> None:
    """Set the value at the end of a path; a key that the file does not have begins as its default.

    A list gets a whole entry of a new name at its end.
    """
    if keys[0] in Config.model_fields and keys[0] not in document:
        document[keys[0]] = Config().model_dump(mode="json")[keys[0]]
    inside: Any = document
    *parents, last = keys
    for depth, key in enumerate(parents, start=1):
        if isinstance(inside, list):
            inside = inside[_place(inside, key, parents[depth - 2], change)]
        elif isinstance(inside, dict):
            if parents[:depth] == ["tasks", key] and isinstance(inside.get(key), int):
                inside[key] = {"complexity": inside[key]}
            inside = inside.setdefault(key, {})
        else:
            inside = None
    if isinstance(inside, list):
        if isinstance(value, dict) and not last.isdecimal() and last not in _names(inside):
            inside.append({"name": last} | value)
        else:
            named = {"name": last} if last in _names(inside) else {}
            place = _place(inside, last, ".".join(parents), change)
            inside[place] = named | value if isinstance(value, dict) else value
    elif isinstance(inside, dict):
        inside[last] = value
    else:
        raise ConfigError(f"--set {change}: {'.'.join(parents)} has no keys of its own")


def _names(entries: list[Any]) -> list[str]:
    return [str(entry.get("name")) for entry in entries if isinstance(entry, dict)]


def _place(entries: list[Any], key: str, kind: str, change: str) -> int:
    """The index of the entry with a name or number."""
    names = [str(entry.get("name")) if isinstance(entry, dict) else "" for entry in entries]
    if key in names:
        return names.index(key)
    if key.isdecimal() and 1 <= int(key) <= len(entries):
        return int(key) - 1
    named = [name for name in names if name not in ("", "None")] or ["none"]
    raise ConfigError(f"--set {change}: {unknown(kind.removesuffix('s'), key, named)}")


def _make_room(document: dict[str, Any], ranges: dict[str, Span], before: dict[str, Span]) -> None:
    """Move the borders of the neighbours of tiers whose ranges were set.

    A tier between two of them may end up without any complexity; then it is used by name alone.
    """
    tiers = document.get("tiers")
    if not ranges or not isinstance(tiers, list):
        return
    spans = _spans(tiers)
    if not set(ranges) <= set(spans):
        return
    order = sorted(spans, key=lambda name: before.get(name, spans[name]))
    for name, span in ranges.items():
        at = order.index(name)
        for place, other in enumerate(order):
            low, high = spans[other]
            if place < at:
                high = span.low - 1 if place == at - 1 else min(high, span.low - 1)
                low = min(low, high + 1)
            elif place > at:
                low = span.high + 1 if place == at + 1 else max(low, span.high + 1)
                high = max(high, low - 1)
            spans[other] = Span(low, high)
        spans[name] = span
    for tier in tiers:
        # One that was set keeps what was said, even if another contradicts it.
        tier["complexity"] = ranges.get(tier["name"], spans[tier["name"]])


def _spans(tiers: Any) -> dict[str, Span]:
    """The ranges of tiers by name; none if any is wrong, which the validation will tell."""
    try:
        return {tier["name"]: parse_span(tier["complexity"]) for tier in tiers}
    except (TypeError, KeyError, ValueError):
        return {}
