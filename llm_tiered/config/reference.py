"""All keys of the config file, for the documentation."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, get_origin

from .sections import Config, sections
from .values import in_words

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

# What comes between the name of a section and those of its keys, by the section's type.
_SEPARATORS: dict[Any, str] = {tuple: "[].", dict: ".NAME."}


class ConfigKey(NamedTuple):
    """A key of the config file.

    In `key`, `tiers[].name` is the key `name` of each entry of the list `tiers`, and NAME stands
    for a name of the user's choice. `default` is YAML; it is empty for a key that can be left
    empty, and None for one that is required.
    """

    key: str
    values: str
    default: str | None
    description: str


def config_keys() -> list[ConfigKey]:
    """Return the keys of all sections, each section's after the section itself."""
    import yaml

    text = files(__package__).joinpath("example.yaml").read_text("utf-8")
    # The example has the defaults as a user would write them.
    defaults: dict[str, Any] = yaml.safe_load(text)
    keys = []
    parts = sections()
    for name, field in Config.model_fields.items():
        keys.append(_key(name, field, defaults[name]))
        for part_name, part in parts[name].model_fields.items() if name in parts else ():
            separator = _SEPARATORS.get(get_origin(field.annotation), ".")
            default = part.get_default(call_default_factory=True)
            keys.append(_key(f"{name}{separator}{part.alias or part_name}", part, default))
    return keys


def _key(name: str, field: FieldInfo, default: Any) -> ConfigKey:
    written = None if field.is_required() else _as_yaml(default)
    return ConfigKey(name, in_words(field), written, field.description or "")


def _as_yaml(value: Any) -> str:
    import yaml

    if value in (None, (), ""):
        return ""
    if isinstance(value, dict):
        value = {name: part for name, part in value.items() if part is not None}
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1 << 16)
    return text.strip().removesuffix("...").strip()
