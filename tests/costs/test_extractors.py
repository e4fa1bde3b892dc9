"""Every form in which genai-prices knows usage, as llm's plugins log it."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ArrayMatch

from llm_tiered.costs.prices import count_tokens, price_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_prices.types import Provider, UsageExtractor

NOON = datetime(2026, 11, 28, 12, tzinfo=timezone.utc)
TOTAL = 100_000

# What some model has no price for, and what is part of nothing that has one.
UNPRICED = {"web_searches", "audio_seconds", "input_text_messages"}

# Models of each provider that are compared.
MODELS = 3


def steps(path: Any) -> list[Any]:
    """Return a path as a list."""
    return [path] if isinstance(path, str) else list(path)


def place(report: dict[str, Any], path: Any) -> tuple[Any, str]:
    """Return the object at a path of a report, and the last key; make what is missing."""
    at: Any = report
    *before, last = steps(path)
    for step, following in zip(before, [*before, last][1:], strict=True):
        if isinstance(step, ArrayMatch):
            item = {step.field: step.match.equals}  # type: ignore[union-attr]  # all are equal
            found = [each for each in at if item.items() <= each.items()]
            if not found:
                at.append(item)
            at = found[0] if found else item
        else:
            at = at.setdefault(step, [] if isinstance(following, ArrayMatch) else {})
    return at, last


def totals(extractor: UsageExtractor) -> list[Any]:
    """Return the paths of the totals of input and output tokens; parts are optional."""
    paths = []
    for unit in ("input_tokens", "output_tokens"):
        mappings = [each for each in extractor.mappings if each.dest == unit]
        mappings.sort(key=lambda mapping: not mapping.required)
        paths += [mapping.path for mapping in mappings[:1]]
    return paths


def full_report(extractor: UsageExtractor) -> dict[str, Any]:
    """Return a report with a number of its own wherever the extractor looks."""
    report: dict[str, Any] = {}
    for number, mapping in enumerate(extractor.mappings):
        at, last = place(report, mapping.path)
        at[last] = TOTAL if mapping.path in totals(extractor) else 7 + number
    # These are sums of others.
    for whole, parts, key in (
        ("cache_creation_input_tokens", "cache_creation", None),
        ("cacheWriteInputTokens", "cacheDetails", "inputTokens"),
        ("cachedContentTokenCount", "cacheTokensDetails", "tokenCount"),
        ("toolUsePromptTokenCount", "toolUsePromptTokensDetails", "tokenCount"),
    ):
        if parts in report:
            values = [each[key] for each in report[parts]] if key else report[parts].values()
            report[whole] = sum(values)
    return report


def as_logged(extractor: UsageExtractor, report: dict[str, Any]) -> tuple[int, int, str]:
    """Return the tokens and the details as a plugin logs them: without the two totals."""
    details = copy.deepcopy(report)
    counts = []
    for path in totals(extractor):
        at, key = place(details, path)
        counts.append(at.pop(key))
    if "thoughtsTokenCount" in report:
        # llm-gemini adds these up, and keeps the number of candidates.
        counts[0] += report["toolUsePromptTokenCount"]
        counts[1] += report["thoughtsTokenCount"]
        details["candidatesTokenCount"] = report["candidatesTokenCount"]
    return counts[0], counts[1], json.dumps(details)


def forms() -> Iterator[tuple[Provider, UsageExtractor]]:
    """Yield the extractors for models that are asked for text."""
    for provider in get_snapshot().providers:
        for extractor in provider.extractors or ():
            is_reply = extractor.root in ("usage", "usageMetadata")
            if is_reply and len(totals(extractor)) == 2:
                yield provider, extractor


def test_every_extractor() -> None:
    """A report of any provider costs what genai-prices calculates from the whole of it."""
    different, compared = [], 0
    for provider, extractor in forms():
        report = full_report(extractor)
        _, usage = extractor.extract({str(extractor.root): report})
        inputs, outputs, details = as_logged(extractor, report)
        for model in provider.models[:MODELS]:
            name = f"{provider.id}/{model.id}"
            prices = price_list(name, NOON.date())
            if prices is None or prices.step(0).prices is not model.get_prices(NOON):
                continue
            try:
                expected = model.get_prices(NOON).calc_price(usage)["total_price"]
            except ValueError:
                # It does not guess how much of the audio was cached.
                continue
            charge = prices.charge(count_tokens(inputs, outputs, details))
            compared += 1
            # What has no price is named, and adds nothing.
            if charge.dollars != expected or set(charge.unpriced) - UNPRICED:
                different.append((name, extractor.api_flavor, charge, expected))
    assert different == []
    assert compared > 50
