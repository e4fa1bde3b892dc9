"""Changes to the list of models in the config file, which leave everything else as it is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from .. import config
from ..errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def add_model(entry: dict[str, Any]) -> None:
    """Add a model to the config file, and keep the rest of it as it is.

    Raises ConfigError, and leaves the file alone, where it is wrong before or after.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    config.load()
    path = config.config_path()
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes = True
    yaml.width = 1 << 16
    text = io.StringIO()
    try:
        document = yaml.load(path.read_text("utf-8") if path.exists() else "") or {}
        document["models"] = document.get("models") or []
        document["models"].append(entry)
        yaml.dump(document, text)
    except YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{path}: can't be changed: {problem}", fix="add it by hand") from None
    _write(path, text.getvalue())


def remove_model(index: int) -> None:
    """Remove the model at that place of the list: its lines, and no others."""
    import yaml

    path = config.config_path()
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
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    try:
        config.load()
    except ConfigError:
        if before is None:
            path.unlink()
        else:
            path.write_text(before, "utf-8")
        raise
