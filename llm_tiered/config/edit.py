"""Changes to the config file, which leave everything else in it as it is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from .. import atomic as whole_file
from ..errors import ConfigError
from ..paths import config_path
from .settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def add_model(entry: dict[str, Any]) -> None:
    """Add a model to the config file, and keep the rest of it as it is.

    Raises ConfigError, and leaves the file alone, where it is wrong before or after.
    """

    def add(document: Any) -> None:
        document["models"] = document.get("models") or []
        document["models"].append(entry)

    _write(config_path(), _changed(add))


def with_tasks(complexities: Mapping[str, int]) -> str:
    """The config file as it would be with these complexities of tasks. Raises ConfigError."""

    def change(document: Any) -> None:
        from ruamel.yaml.comments import CommentedMap

        document["tasks"] = document.get("tasks") or CommentedMap()
        tasks = document["tasks"]
        for name, complexity in complexities.items():
            if isinstance(tasks.get(name), dict):
                tasks[name]["complexity"] = complexity
            elif name in tasks:
                tasks[name] = complexity
            else:
                # First of all: what stands behind the last one may be a comment on what follows.
                tasks.insert(0, name, complexity)

    return _changed(change)


def write(text: str) -> None:
    """Replace the config file. Raises ConfigError, and leaves it alone, where the text is wrong."""
    _write(config_path(), text)


def _changed(change: Callable[[Any], None]) -> str:
    """The text of the config file after a change to what is in it, comments kept."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    load_settings()
    path = config_path()
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes = True
    yaml.width = 1 << 16
    text = io.StringIO()
    try:
        document = yaml.load(path.read_text("utf-8") if path.exists() else "") or {}
        change(document)
        yaml.dump(document, text)
    except YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{path}: can't be changed: {problem}", fix="change it by hand") from None
    return text.getvalue()


def remove_model(index: int) -> None:
    """Remove the model at that place of the list: its lines, and no others."""
    import yaml

    path = config_path()
    text = path.read_text("utf-8")
    root: Any = yaml.compose(text)
    models: Any = next(value for key, value in root.value if key.value == "models")
    lines = text.splitlines(keepends=True)
    if models.flow_style or len(models.value) == 1:
        kept = [yaml.safe_load(yaml.serialize(item)) for item in models.value]
        del kept[index]
        first, last = models.start_mark, _end(models)
        new = yaml.safe_dump(kept, default_flow_style=True, width=1 << 16).strip()
        if models.flow_style:
            text = text[: first.index] + new + text[last.index :]
        else:
            key: Any = next(key for key, _ in root.value if key.value == "models")
            head = lines[key.start_mark.line]
            lines[key.start_mark.line] = head.replace("models:", "models: []", 1)
            del lines[first.line : last.line + 1]
            text = "".join(lines)
    else:
        item = models.value[index]
        del lines[item.start_mark.line : _end(item).line + 1]
        text = "".join(lines)
    _write(path, text)


def _end(node: Any) -> Any:
    """Where a YAML node ends: with its last scalar, without the comments that follow."""
    if isinstance(node.value, str) or node.flow_style or not node.value:
        return node.end_mark
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _write(path: Path, text: str) -> None:
    before = path.read_text("utf-8") if path.exists() else None
    _replace(path, text)
    try:
        load_settings()
    except ConfigError:
        if before is None:
            path.unlink()
        else:
            _replace(path, before)
        raise


def _replace(path: Path, text: str) -> None:
    """Write the config; half a one may still be a right one."""
    try:
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        whole_file.write(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from None
