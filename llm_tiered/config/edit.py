"""Changes to the config file that keep its comments and everything else in it."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from ..atomic import write_file
from ..errors import ConfigError
from ..paths import config_path
from .settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# A key and the first item of its list, below it: the spaces before the key, the dash and the item.
_LIST = re.compile(r"^( *)[^\s#-].*:[ \t]*(?:#.*)?\n(?:[ \t]*(?:#.*)?\n)*( *)-( +)\S", re.MULTILINE)

_NO_TOKENS = (None, None, None, None)


def add_model(entry: Mapping[str, Any]) -> None:
    """Add a model to the config file.

    Raises ConfigError, and leaves the file alone, if the file is wrong before or after.
    """

    def add(document: Any) -> None:
        from ruamel.yaml.comments import CommentedMap, CommentedSeq

        values = {
            name: CommentedSeq(value) if isinstance(value, list) else value
            for name, value in entry.items()
        }
        models = document.get("models")
        if models:
            comments = _take_comments_after(document, "models")
            models.append(CommentedMap(values))
            _put_comments_after(document, "models", comments)
        else:
            document["models"] = CommentedSeq([CommentedMap(values)])

    _write(config_path(), _edited(add))


def remove_model(index: int) -> None:
    """Remove the model at this place of the list, with the comments on it.

    Raises ConfigError, and leaves the file alone, if the file is wrong before or after.
    """

    def remove(document: Any) -> None:
        models = document["models"]
        comments = _take_comments_after(models, index)
        del models[index]
        # In place of the comments on the model that is gone.
        if index:
            _put_comments_after(models, index - 1, comments)
        else:
            _set_comments(document, "models", comments)
        if not models:
            document["models"] = []

    _write(config_path(), _edited(remove))


def with_tasks(complexities: Mapping[str, int]) -> str:
    """Return the text of the config file with these complexities of tasks. Raises ConfigError."""

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
                # At the beginning: after the last task there may be comments on the next key.
                tasks.insert(0, name, complexity)

    return _edited(change)


def write(text: str) -> None:
    """Replace the config file. Raises ConfigError, and leaves it alone, if the text is wrong."""
    _write(config_path(), text)


def _edited(change: Callable[[Any], None]) -> str:
    """The text of the config file after a change to its parsed content."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import YAMLError

    load_settings()
    path = config_path()
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16
    before = path.read_text("utf-8") if path.exists() else ""
    after = io.StringIO()
    # Lists are indented as the first one of the file is, or as in the example file.
    spaces = _LIST.search(before)
    key, dash, item = map(len, spaces.groups()) if spaces else (0, 2, 1)
    offset = max(dash - key, 0)
    yaml.indent(mapping=2, sequence=offset + 1 + item, offset=offset)
    try:
        document = yaml.load(before)
        if document is None:
            # Comments alone belong to no value.
            after.write(before)
            document = CommentedMap()
        change(document)
        yaml.dump(document, after)
    except YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{path}: can't be changed: {problem}", fix="change it by hand") from None
    return after.getvalue()


# ruamel.yaml attaches the comments between two entries to the last scalar of the first one, behind
# the comment at the end of its line. Unless they are moved, they go with that entry, or end up
# behind a new one.


def _take_comments_after(parent: Any, key: Any) -> str:
    """Remove the comments between an entry and the next one, and return them."""
    node, last = _last_scalar(parent, key)
    comments = _comments(node, last)
    _set_comments(node, last, "")
    return comments


def _put_comments_after(parent: Any, key: Any, comments: str) -> None:
    """Put comments between an entry and the next one."""
    _set_comments(*_last_scalar(parent, key), comments)


def _last_scalar(parent: Any, key: Any) -> tuple[Any, Any]:
    """The innermost collection at the end of an entry, and the key of its last value."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    value = parent[key]
    if not isinstance(value, (CommentedMap, CommentedSeq)) or not value or value.fa.flow_style():
        return parent, key
    return _last_scalar(value, len(value) - 1 if isinstance(value, list) else list(value)[-1])


def _comments(node: Any, key: Any) -> str:
    token = node.ca.items.get(key, _NO_TOKENS)[_place(node)]
    return str(token.value.partition("\n")[2]) if token else ""


def _set_comments(node: Any, key: Any, comments: str) -> None:
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    tokens = node.ca.items.get(key, _NO_TOKENS)
    token = tokens[_place(node)]
    if token:
        same_line = token.value.partition("\n")[0]
        token.value = f"{same_line}\n{comments}"
    elif comments:
        tokens = [*tokens]
        tokens[_place(node)] = CommentToken(f"\n{comments}", CommentMark(0), None)
        node.ca.items[key] = tokens


def _place(node: Any) -> int:
    """The index of the token with the comments after a value."""
    return 0 if isinstance(node, list) else 2


def _write(path: Path, text: str) -> None:
    """Write the config file; if it is wrong afterwards, restore it and raise ConfigError."""
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
    """Write the config file as a whole: half of one may be valid, too."""
    try:
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from None
