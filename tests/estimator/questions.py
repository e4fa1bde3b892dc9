"""The questions that the estimator is fitted on and measured with."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from llm_tiered.estimator.features import TextMeasures, measure

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {
    "RouteLLM/mmlu": ("mixtral-8x7b-instruct",),
    # Without qwen2.5-7b-instruct: its zeros there are answers in the wrong format.
    "LLMRouter/dcrouter": ("gemma-2-9b-it", "llama-3.1-8b-instruct", "mistral-7b-instruct-v0.3"),
}
"""The small models of each source. The target of the fit is how often they answer wrongly."""

LARGE = {
    "RouteLLM/mmlu": ("gpt-4-1106-preview",),
    "LLMRouter/dcrouter": (
        "llama-3.1-nemotron-51b-instruct",
        "llama-3.3-nemotron-super-49b-v1",
        "llama3-chatqa-1.5-70b",
    ),
}
"""The large models of each source. Each group is compared with the best of them there."""


@dataclass(frozen=True)
class Question:
    """A prompt of the data, and how well small and large models answered it, 0 to 1."""

    source: str
    group: str
    prompt: str
    measures: TextMeasures
    small: float
    large: float


def read_questions(path: Path) -> list[Question]:
    """Read a file with one JSON object per line, gzipped or not.

    Each is {"source", "group", "prompt", "scores": {model: 0.0 to 1.0}}; groups of the same name in
    two sources are different groups. Raises KeyError for an unknown source or model.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    by_group = defaultdict(list)
    for row in rows:
        by_group[row["source"], row["group"]].append(row["scores"])
    best = {
        (source, group): max(
            LARGE[source], key=lambda model: fmean(scores[model] for scores in answers)
        )
        for (source, group), answers in by_group.items()
    }
    return [
        Question(
            source=row["source"],
            group=f"{row['source']} {row['group']}",
            prompt=row["prompt"],
            measures=measure(row["prompt"]),
            small=fmean(row["scores"][model] for model in SMALL[row["source"]]),
            large=row["scores"][best[row["source"], row["group"]]],
        )
        for row in rows
    ]
