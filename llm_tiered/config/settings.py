"""The config file and the environment → settings, validated once."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from ..errors import ConfigError
from ..mlx.catalog import CATALOG, PREFIX
from ..paths import aliases_path, config_path, held_files
from ..wording import did_you_mean
from .file import parse, user_aliases
from .local_models import noted_aliases, taken_aliases
from .sections import Config, sections
from .terms import HIGHEST
from .tiers import Tier, default_tiers
from .user_models import valid_models
from .values import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic import BaseModel

    from .terms import Kept, Place

Source = Literal["default", "config", "environment"]

# The thresholds that the environment can move, and the tier that ends at each one.
THRESHOLDS = {"COMPLEXITY_SMALL": "small", "COMPLEXITY_MEDIUM": "medium"}
# Pydantic names the Python types; these are the words for them in YAML.
KINDS = {"tuple_type": "a list", "dict_type": "keys and values", "model_type": "keys and values"}

# Seconds for which a file that has changed must stay the same before it is read, and how often that
# is awaited: a file that changes all the time is read all the same.
REST = 0.03
_MOST_RESTS = 30

ENVIRONMENT = ("FORCE_LOCAL_LLM", *THRESHOLDS)


@dataclass(frozen=True)
class Settings:
    """The settings in force for a request, apart from its own options.

    `force_local` is FORCE_LOCAL_LLM: True keeps everything on this machine, False sends
    everything to the cloud, None leaves it to the tiers. `sources` has the source of each value
    that is not the default.
    """

    config: Config = field(default_factory=Config)
    force_local: bool | None = None
    sources: dict[str, Source] = field(default_factory=dict)

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """All tiers, lowest complexity first."""
        return self.config.tiers

    @property
    def local_only(self) -> bool:
        """Whether no request may leave this machine."""
        return self.config.local_only or self.force_local is True

    @property
    def kept(self) -> Kept | None:
        """Whether all requests stay on this machine, or on the user's machines."""
        return "here" if self.local_only else "own" if self.config.private else None

    def place_of(self, model_id: str) -> Place:
        """Return where the model with this id runs; if tiers differ, their farthest place."""
        places = {tier.place for tier in self.tiers if tier.model_id == model_id}
        if not places:
            return "here" if model_id.startswith(PREFIX) else "cloud"
        return "cloud" if "cloud" in places else "own" if "own" in places else "here"

    def tier(self, name: str) -> Tier | None:
        """The tier of that name, or None."""
        return next((tier for tier in self.tiers if tier.name == name), None)


def load_settings() -> Settings:
    """Return the settings in force; they are read again only after something has changed.

    That is the file, the environment, or what names mean in llm. Raises ConfigError with the file
    or variable, the key, its value and the allowed values.
    """
    if held := _held.get():
        return held
    path = config_path()
    stamp = _stamp_at_rest(path)
    environment = tuple(os.environ.get(name) for name in ENVIRONMENT)
    names = (_stamp(aliases_path()), noted_aliases()) if stamp else None
    key = (path, stamp, environment, names)
    if _cached.get("key") != key:
        # The defaults need no check.
        config, sources = (Config.model_construct(), {}) if stamp is None else _read(path)
        _cached.update(key=key, settings=_with_environment(config, sources))
    settings: Settings = _cached["settings"]
    return settings


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells one version of a file from the next, or None if it is not there."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    return stat.st_mtime_ns, stat.st_size


def _stamp_at_rest(path: Path) -> tuple[int, int] | None:
    """What tells the version of a file, once nobody is writing to it.

    An editor that saves a file empties or removes it for a moment: without `local_only`, prompts
    would go to the cloud then.
    """
    stamp = _stamp(path)
    seen = _seen.get(path, stamp)
    for _ in range(_MOST_RESTS):
        if stamp == seen:
            break
        time.sleep(REST)
        seen, stamp = stamp, _stamp(path)
    _seen[path] = stamp
    return stamp


# The version of each file that was seen last.
_seen: dict[Path, tuple[int, int] | None] = {}
_cached: dict[str, Any] = {}
_held: ContextVar[Settings | None] = ContextVar("settings", default=None)


@contextmanager
def held_settings() -> Iterator[Settings]:
    """Keep the current settings for all that this task does in the block.

    With many requests, looking for changes of the config in each takes longer than the rest.
    Raises ConfigError as `load_settings` does.
    """
    with held_files():
        settings = load_settings()
        token = _held.set(settings)
        try:
            yield settings
        finally:
            _held.reset(token)


def settings_of(document: Mapping[str, Any], where: str) -> Settings:
    """Return the settings that the keys and values of a config file would give, as in force now.

    The environment beats them. `where` is what errors call the document. Raises ConfigError.
    """
    return _with_environment(*_validated(document, where))


def _read(path: Path) -> tuple[Config, dict[str, Source]]:
    return _validated(parse(path), str(path))


def _validated(document: Mapping[str, Any], where: str) -> tuple[Config, dict[str, Source]]:
    try:
        config = Config.model_validate(_with_ids(document))
    except ValidationError as error:
        lines = [_describe(item) for item in error.errors(include_url=False)]
        raise ConfigError("\n".join(f"{where}: {line}" for line in lines)) from None
    return config, dict.fromkeys(document, "config")


def _with_ids(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document with the ids of the tiers' models in place of their aliases."""
    tiers = document.get("tiers")
    if "tiers" not in document:
        tiers = [tier.model_dump(mode="json") for tier in default_tiers()]
    if not isinstance(tiers, (list, tuple)):
        return document
    used = {name for tier in tiers if (name := _name_in_llm(tier))}
    models = valid_models(document)
    names = {alias: spec.model_id for spec in CATALOG for alias in spec.aliases}
    names |= {model.id.removeprefix(PREFIX): model.id for model in models}
    names |= {alias: model.id for model in models for alias in model.aliases}
    # As in llm, what a name means to another plugin comes first, and before that what it means to
    # the user (`llm aliases set`).
    if used & names.keys():
        names = {name: model for name, model in names.items() if name not in taken_aliases()}
    names |= user_aliases()
    if not used & names.keys():
        return document
    renamed = [
        tier | {"model": names[name]} if (name := _name_in_llm(tier)) and name in names else tier
        for tier in tiers
    ]
    return {**document, "tiers": renamed}


def _name_in_llm(tier: Any) -> str | None:
    """The name of a tier's model in llm, or None for a server's, which has no aliases there."""
    name = tier.get("model") if isinstance(tier, dict) and not tier.get("server") else None
    return name if isinstance(name, str) else None


def _describe(error: Any) -> str:
    """Describe a mistake in one line: the key, its value and the allowed values."""
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    key = where.lstrip(".")
    if error["type"] == "extra_forbidden":
        section = sections().get(error["loc"][0], Config) if error["loc"][1:] else Config
        known = _names(section)
        hint = did_you_mean(str(error["loc"][-1]), known)
        hint = f", {hint}" if hint else f"; known are {', '.join(known)}"
        return f"{key}: unknown key{hint}"
    if error["type"] == "missing":
        return f"{key.rpartition('.')[0]}: {error['loc'][-1]!r} is missing"
    if error["type"] in KINDS:
        expected = KINDS[error["type"]]
        if error["type"] == "model_type":
            expected += f": {', '.join(_names(sections()[error['loc'][0]]))}"
        return f"{key}: found {error['input']!r}, expected {expected}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{key}: {message}" if key else message
    if error["type"].endswith(("_type", "_parsing", "_mismatch", "literal_error", "from_float")):
        return f"{key}: found {error['input']!r}, expected {_expected(error['loc'])}"
    return f"{key}: found {error['input']!r}; {message[0].lower()}{message[1:]}"


def _expected(loc: Sequence[str | int]) -> str:
    """The values that the key at a place in the file allows, in words."""
    section = sections().get(str(loc[0]), Config) if loc[1:] else Config
    fields = {field.alias or name: field for name, field in section.model_fields.items()}
    return in_words(next(fields[str(part)] for part in reversed(loc) if part in fields))


def _names(section: type[BaseModel]) -> list[str]:
    """The names of a section's keys, as they are written."""
    return [field.alias or name for name, field in section.model_fields.items()]


def _with_environment(config: Config, sources: dict[str, Source]) -> Settings:
    settings = Settings(config, _force_local(), sources)
    sources = dict(sources)
    if settings.force_local is not None:
        sources["force_local"] = "environment"
    for variable, name in THRESHOLDS.items():
        text = os.environ.get(variable, "").strip()
        if text:
            tiers = _move_threshold(settings.tiers, name, variable, text)
            config = settings.config.model_copy(update={"tiers": tiers})
            settings = replace(settings, config=config)
            sources["tiers"] = "environment"
    return replace(settings, sources=sources)


def _force_local() -> bool | None:
    text = os.environ.get("FORCE_LOCAL_LLM", "").strip().lower()
    if text in ("", "true", "1", "yes", "on", "false", "0", "no", "off"):
        return text in ("true", "1", "yes", "on") if text else None
    raise ConfigError(f"FORCE_LOCAL_LLM: found {text!r}, expected true, false or nothing")


def _move_threshold(
    tiers: tuple[Tier, ...], name: str, variable: str, text: str
) -> tuple[Tier, ...]:
    """The tiers with the upper end of one tier moved, and the next one starting after it."""
    names = [tier.name for tier in tiers]
    if name not in names[:-1]:
        raise ConfigError(
            f"{variable} sets the upper limit of the tier {name!r}, but no tier has that name"
        )
    position = names.index(name)
    span = tiers[position].complexity
    lowest = span.low - 1
    if not text.isdecimal() or not lowest <= int(text) <= HIGHEST:
        raise ConfigError(f"{variable}: found {text!r}, expected {lowest} to {HIGHEST}")
    end = int(text)
    spans = [tier.complexity for tier in tiers]
    spans[position] = span._replace(high=end)
    spans[position + 1] = spans[position + 1]._replace(low=end + 1)
    for later in range(position + 2, len(spans)):
        spans[later] = spans[later]._replace(low=max(spans[later].low, end + 1))
    return tuple(
        tier.model_copy(update={"complexity": moved})
        for tier, moved in zip(tiers, spans, strict=True)
    )
