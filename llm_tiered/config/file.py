"""The user's files as written: the config and the aliases, not yet validated."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..paths import aliases_path

if TYPE_CHECKING:
    from pathlib import Path

# The tag of `<<`, with which a mapping takes over the keys of others.
_MERGE = "tag:yaml.org,2002:merge"


def read(path: Path) -> str:
    """Return the text of the config file. Raises ConfigError."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None


def user_aliases() -> dict[str, str]:
    """Return the user's aliases (`llm aliases set`) with the ids of their models.

    Raises ConfigError.
    """
    path = aliases_path()
    try:
        aliases: dict[str, str] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from None
    return aliases


def parse(path: Path) -> dict[str, Any]:
    """Return the keys and values of the config file. Raises ConfigError with line and column."""
    import yaml

    text = read(path)
    try:
        document = _loaded(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or "can't be read"
        raise ConfigError(f"{path}:{where} not valid YAML: {problem}") from None
    except ValueError as error:  # an impossible date or number
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    except (LookupError, AttributeError):  # `!!bool perhaps`
        raise ConfigError(f"{path}: not valid YAML: a value contradicts its tag") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid YAML: it is nested too deeply") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: found {type(document).__name__}, expected keys and values")
    return document


def _loaded(text: str) -> Any:
    """Return what a YAML text holds: libyaml is ten times faster, but explains mistakes less well.

    Raises whatever PyYAML's own parser raises, and ConstructorError for a key that is there twice.
    """
    import yaml

    # Not every PyYAML was built with libyaml.
    if loader := getattr(yaml, "CSafeLoader", None):
        with suppress(yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError):
            return _constructed(loader(text))
    return _constructed(yaml.SafeLoader(text))


def _constructed(loader: Any) -> Any:
    try:
        node = loader.get_single_node()
        _check_keys(node, set())
        return loader.construct_document(node) if node else None
    finally:
        loader.dispose()


def _check_keys(node: Any, seen: set[int]) -> None:
    """Raise ConstructorError if a key is there twice.

    PyYAML takes the last one: `local_only: true` would be undone by a default further down.
    """
    import yaml

    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _check_keys(each, seen)
    if isinstance(node, yaml.MappingNode):
        first: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            _check_keys(value, seen)
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            name = key.tag, key.value
            if name in first:
                problem = f"{key.value!r} is there twice, first in line {first[name]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            first[name] = key.start_mark.line + 1
