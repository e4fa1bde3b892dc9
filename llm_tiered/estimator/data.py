"""The questions that the estimator is fitted on and measured with."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from .features import Measured, measure

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {
    "RouteLLM/mmlu": ("mixtral-8x7b-instruct",),
    # qwen2.5-7b-instruct is left out: its zeros there are answers in the wrong format.
    "LLMRouter/dcrouter": ("gemma-2-9b-it", "llama-3.1-8b-instruct", "mistral-7b-instruct-v0.3"),
}
"""The small models of each source. The target is how often they get a prompt wrong."""

LARGE = {
    "RouteLLM/mmlu": ("gpt-4-1106-preview",),
    "LLMRouter/dcrouter": (
        "llama-3.1-nemotron-51b-instruct",
        "llama-3.3-nemotron-super-49b-v1",
        "llama3-chatqa-1.5-70b",
    ),
}
"""The large models of each source. In each group, the best of them is what is compared with."""


@dataclass(frozen=True)
class Question:
    """One prompt of the data, with how well small and large models answered it, 0 to 1."""

    source: str
    group: str
    prompt: str
    measured: Measured
    small: float
    large: float


def read(path: Path) -> list[Question]:
    """Read a file of one JSON object a line, gzipped or not.

    Each is {"source", "group", "prompt", "scores": {model: 0.0 to 1.0}}; a group of one source
    has nothing to do with a group of the same name in another. Raises KeyError for a source or
    a model that is not known here.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    by_group = defaultdict(list)
    for row in rows:
        by_group[row["source"], row["group"]].append(row["scores"])
    best = {
        (source, group): max(
            LARGE[source], key=lambda model: fmean(scores[model] for scores in answered)
        )
        for (source, group), answered in by_group.items()
    }
    return [
        Question(
            source=row["source"],
            group=f"{row['source']} {row['group']}",
            prompt=row["prompt"],
            measured=measure(row["prompt"]),
            small=fmean(row["scores"][model] for model in SMALL[row["source"]]),
            large=row["scores"][best[row["source"], row["group"]]],
        )
        for row in rows
    ]
