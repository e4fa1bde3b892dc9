from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llm_tiered.bench import pairs
from llm_tiered.bench.home import Subject, home
from llm_tiered.bench.parts import Bench, Plan
from llm_tiered.mlx import device
from llm_tiered.mlx.engine.engine import ENGINE
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAN = Plan(parts=(), runs=2, tokens=4, batch=2)


@pytest.fixture(autouse=True)
def _empty_engine() -> Iterator[None]:
    """Leave no model in memory for the next test."""
    yield
    ENGINE.close()


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A tiny model that never ends its turn before its token limit."""
    folder = tmp_path_factory.mktemp("bench") / "tiny"
    return Subject("mlx/tiny", build("qwen2", folder, context=4096, quantize=True))


@pytest.fixture(scope="session")
def other_subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A tiny model of another family."""
    folder = tmp_path_factory.mktemp("bench") / "other"
    return Subject("mlx/other", build("phi3", folder, context=4096))


@pytest.fixture
def benches(
    subject: Subject, other_subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Bench]]:
    """Both models on the bench, with few rounds of each part."""
    monkeypatch.setattr(pairs, "MORE_ROUNDS", 2)
    subjects = [subject, other_subject]
    with home(tmp_path / "home", subjects, subject, None):
        yield [Bench(one, PLAN, device.detect().budget) for one in subjects]


@pytest.fixture
def bench(benches: list[Bench]) -> Bench:
    """The first of the two models on the bench."""
    return benches[0]
