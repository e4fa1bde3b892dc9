"""What a service reports about a request → how many of each unit that it charges for.

The units are those of genai-prices, such as `cache_read_tokens`. Where services report them comes
from genai-prices too: its extractors describe the replies of each provider's API. llm's plugins put
such a reply, without the two totals, into the `token_details` of a response.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from genai_prices.types import Provider, UsageExtractor

Path: TypeAlias = tuple[str, ...]

INPUT, OUTPUT, CACHE_READ = "input_tokens", "output_tokens", "cache_read_tokens"

# The plugin for this API adds all kinds of input and output up before it sets the totals.
_ADDED_UP = ("google", "default")

# Where services report units that genai-prices does not read.
_MORE: dict[Path, str] = {
    ("prompt_cache_hit_tokens",): CACHE_READ,
    ("num_cached_tokens",): CACHE_READ,
    ("server_tool_use", "code_execution_requests"): "code_executions",
    ("server_tool_use", "x_search_requests"): "social_searches",
}

# Numbers that cost nothing by themselves: sums and parts of tokens that are counted elsewhere,
# times, and what the service says that the whole request costs.
_FREE = re.compile(
    r"total_?tokens?(count)?|text_?tokens|image_tokens|(accepted|rejected)_prediction_tokens"
    r"|prompt_cache_miss_tokens|web_fetch_requests"
    r"|(\w+_)?(time|duration|latency|ms|per_second)(_\w+)?",
    re.IGNORECASE,
)
_FREE_PARTS = frozenset({"cost", "cost_details", "time_info", "iterations"})

_KINDS = ("text", "audio", "image", "video")

# The members of a list of counts are told apart by one of these.
_LABELS = ("modality", "ttl")


class Units(NamedTuple):
    """How many of each unit a request used, and the reported keys whose meaning is unknown."""

    counts: dict[str, int]
    unknown: tuple[str, ...] = ()


def parse_details(details: str | None) -> dict[str, Any]:
    """Return the `token_details` of a response. Raises ValueError if they are not a JSON object."""
    parsed = json.loads(details) if details else None
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise ValueError(f"not token details: {details}")
    return parsed


def count_units(
    input_tokens: int, output_tokens: int, details: Mapping[str, Any], provider: str | None
) -> Units:
    """Return the units of a request, as this provider of genai-prices counts them.

    None is an unknown provider. Raises ValueError if the numbers contradict each other.
    """
    leaves = dict(_leaves(_with_sums(details)))
    form = _best_form(provider, frozenset(leaves))
    counts = Counter({INPUT: input_tokens, OUTPUT: output_tokens})
    unknown = []
    for path, value in leaves.items():
        units = form.units(path)
        if units is None:
            if value and not isinstance(value, (bool, str)) and not _is_free(path):
                unknown.append(".".join(path))
            continue
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{'.'.join(path)} is not a number of tokens: {value!r}")
        for unit in units:
            counts[unit] += value
    for path, unit in _MORE.items():
        # The same number may be reported twice, under both names.
        if path in leaves and not counts[unit]:
            counts[unit] = leaves[path] or 0
    _add_overlaps(counts)
    _check(counts)
    return Units(dict(counts), tuple(unknown))


@dataclass(frozen=True)
class _Form:
    """Where one API reports which units. `added` is what its plugin has put into the totals."""

    paths: dict[Path, tuple[str, ...]]
    totals: frozenset[Path]
    added: bool

    def units(self, path: Path) -> tuple[str, ...] | None:
        """The units that a number at this path counts; None if it means nothing known."""
        units = self.paths.get(path)
        if units is None:
            units = _common_paths().get(path)
            if units is None:
                return () if path in _MORE else None
            units = tuple(unit for unit in units if unit not in (INPUT, OUTPUT))
        if path in self.totals:
            return ()
        if self.added:
            return tuple(unit for unit in units if unit not in (INPUT, OUTPUT))
        return units


@lru_cache(maxsize=256)
def _best_form(provider: str | None, paths: frozenset[Path]) -> _Form:
    """Return the form of the provider's API that explains most of the numbers at these paths."""
    forms = _forms().get(provider or "", ())
    if not any(path in form.paths for form in forms for path in paths):
        # A provider that offers another one's API, or that genai-prices has no extractor for.
        forms += tuple(form for others in _forms().values() for form in others)
    return max(forms, key=lambda form: sum(path in form.paths for path in paths))


@lru_cache(maxsize=1)
def _forms() -> dict[str, tuple[_Form, ...]]:
    from genai_prices.data_snapshot import get_snapshot

    return {
        provider.id: tuple(_form(provider, extractor) for extractor in provider.extractors or ())
        for provider in get_snapshot().providers
    }


def _form(provider: Provider, extractor: UsageExtractor) -> _Form:
    paths: defaultdict[Path, tuple[str, ...]] = defaultdict(tuple)
    for mapping in extractor.mappings:
        paths[_path(mapping.path)] += (mapping.dest,)
    totals = set()
    for unit in (INPUT, OUTPUT):
        # Parts that are added to a total are optional, and may come before it.
        mappings = [mapping for mapping in extractor.mappings if mapping.dest == unit]
        mappings.sort(key=lambda mapping: not mapping.required)
        totals |= {_path(mapping.path) for mapping in mappings[:1]}
    added = (provider.id, extractor.api_flavor) == _ADDED_UP
    return _Form(dict(paths), frozenset(totals), added)


@lru_cache(maxsize=1)
def _common_paths() -> dict[Path, tuple[str, ...]]:
    """Return what most APIs mean by each path."""
    votes: defaultdict[Path, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for forms in _forms().values():
        for form in forms:
            for path, units in form.paths.items():
                votes[path][units] += 1
    return {path: units.most_common(1)[0][0] for path, units in votes.items()}


def _path(path: Any) -> Path:
    steps = [path] if isinstance(path, str) else path
    return tuple(step if isinstance(step, str) else f"[{step.match.equals}]" for step in steps)


def _leaves(details: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every value with its path; in a list of counts, a label takes the place of an index."""
    if isinstance(details, dict):
        for key, value in details.items():
            yield from _leaves(value, (*path, str(key)))
    elif isinstance(details, list):
        for place, item in enumerate(details):
            yield from _leaves(item, (*path, f"[{_label(item) or place}]"))
    else:
        yield path, details


def _label(item: Any) -> Any:
    found = (item.get(label) for label in _LABELS) if isinstance(item, dict) else ()
    return next((label for label in found if label), None)


def _with_sums(details: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return Anthropic's details with all that was written to its caches, if that is missing."""
    total, parts = "cache_creation_input_tokens", details.get("cache_creation")
    if details.get(total) or not isinstance(parts, dict):
        return details
    return {**details, total: sum(value for value in parts.values() if isinstance(value, int))}


def _is_free(path: Path) -> bool:
    return bool(_FREE.fullmatch(path[-1])) or not _FREE_PARTS.isdisjoint(path)


def _add_overlaps(counts: Counter[str]) -> None:
    """Say that nothing is both cached and audio (or an image …) where the service does not say.

    genai-prices refuses to guess.
    """
    for kind in _KINDS:
        for cached in ("read", "write"):
            if counts[f"cache_{cached}_tokens"] and counts[f"input_{kind}_tokens"]:
                counts[f"cache_{kind}_{cached}_tokens"] += 0


def _check(counts: Counter[str]) -> None:
    inputs, outputs = counts[INPUT], counts[OUTPUT]
    read, write = counts["cache_read_tokens"], counts["cache_write_tokens"]
    parts = [
        (inputs, read + write),
        (inputs, sum(counts[f"input_{kind}_tokens"] for kind in _KINDS)),
        (outputs, sum(counts[f"output_{kind}_tokens"] for kind in _KINDS)),
        (outputs, counts["output_reasoning_tokens"]),
        (read, sum(counts[f"cache_{kind}_read_tokens"] for kind in _KINDS)),
        (write, counts["cache_write_5m_tokens"] + counts["cache_write_1h_tokens"]),
    ]
    for kind in _KINDS:
        both, alone = counts[f"cache_{kind}_read_tokens"], counts[f"input_{kind}_tokens"]
        if alone:
            parts += [(alone, both), (inputs, read + alone - both)]
    if min(counts.values()) < 0 or any(part > whole for whole, part in parts):
        raise ValueError(f"contradictory token counts: {dict(counts)}")
