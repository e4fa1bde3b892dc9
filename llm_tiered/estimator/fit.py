"""Fit the coefficients, measure them, time them: `python -m llm_tiered.estimator.fit --help`.

Needs numpy, which comes with MLX. The data stays outside the package: one JSON object a line,
`{"source", "group", "prompt", "scores": {model: 0.0 to 1.0}}`, gzipped or not.
"""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .features import FEATURES, Measured, measure
from .model import CLIP, COEFFICIENTS, Coefficients, Weight, estimate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SMALL = {
    "RouteLLM/mmlu": ("mixtral-8x7b-instruct",),
    # qwen2.5-7b-instruct is left out: there its zeros are answers in the wrong format.
    "LLMRouter/dcrouter": ("gemma-2-9b-it", "llama-3.1-8b-instruct", "mistral-7b-instruct-v0.3"),
}
"""The small models of each source. The target is the chance that they get a prompt wrong."""

LARGE = {
    "RouteLLM/mmlu": ("gpt-4-1106-preview",),
    "LLMRouter/dcrouter": (
        "llama-3.1-nemotron-51b-instruct",
        "llama-3.3-nemotron-super-49b-v1",
        "llama3-chatqa-1.5-70b",
    ),
}
"""The large models of each source. For measuring, the best of them in each group is taken."""

WEIGHTS = {"RouteLLM/mmlu": 1.0, "LLMRouter/dcrouter": 3.0}
"""What all groups of a source weigh together. All of MMLU is one kind of prompt, with three
quarters of the data; the tasks of the other source are a kind each."""

RIDGE = 60.0
"""Penalty on the weights, of standardised features."""

GROUP_RIDGE = 6.0
"""Penalty on a level for each group. It takes up what only a benchmark's own way of scoring
explains, so that the weights have to explain the difference between prompts."""

SMALL_SHARE, LARGE_SHARE = 0.35, 0.15
"""Shares of the training prompts that get a complexity of up to 4, and of 8 and more."""
