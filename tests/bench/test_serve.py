"""Two servers and many clients."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llm_tiered.bench.serve import serve
from tests.bench.checking import by_name
from tests.bench.streaming import replace_servers

if TYPE_CHECKING:
    import pytest

    from llm_tiered.bench.parts import Bench


def test_real_servers(bench: Bench) -> None:
    """Both servers start as processes of their own, and answer all clients."""
    bench.plan = replace(bench.plan, runs=1)
    assert len(by_name(serve(bench, 2))) == 3


def test_serve(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed and first token are compared with mlx_lm.server, the slowest client with the median."""
    replace_servers(monkeypatch)
    figures = by_name(serve(bench, 3))
    assert {name: (figure.unit, figure.against) for name, figure in figures.items()} == {
        "serve": ("tokens/s", "mlx_lm.server"),
        "serve_first_token": ("ms", "mlx_lm.server"),
        "serve_slowest": ("s", "median client"),
    }
    assert {figure.note for figure in figures.values()} == {"3 clients"}
    slowest = figures["serve_slowest"].ratio
    assert slowest is not None
    assert slowest >= 1


def test_both_get_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both servers get the same prompts, of which no two begin alike, and the same limits."""
    asked = replace_servers(monkeypatch)
    serve(bench, 2)
    assert {body.pop("model") for body in asked} == {"mlx/tiny", "default_model"}
    systems = [body["messages"][0]["content"] for body in asked]
    prompts = 2 * (bench.plan.runs + 1)
    assert len(systems) == 2 * prompts
    assert len(set(systems)) == prompts
    assert all(systems.count(system) == 2 for system in systems)
    assert {(body["max_tokens"], body["temperature"]) for body in asked} == {(4, 0)}
