"""`llm tiered serve` and mlx_lm.server with the same model, the same prompts and many clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .engines import engine_home
from .figures import Figure, interleave_warm
from .servers import Served, mlx_lm_server, tiered_serve
from .streams import Crowd, ask_all

if TYPE_CHECKING:
    from .parts import Bench

MLX_LM_SERVER = "mlx_lm.server"


def serve(bench: Bench, clients: int) -> list[Figure]:
    """Measure the answers to clients that ask at the same time, with both servers in turn.

    The server that is not measured has nothing to do. Only ours keeps a log of prompts, as it
    does by default.
    """
    subject = bench.subject
    story = bench.prompts.story(bench.plan.tokens)
    rounds = [
        [bench.prompts.new_system() for _ in range(clients)] for _ in range(bench.plan.runs + 1)
    ]

    def crowd(server: Served, number: int) -> Crowd:
        return ask_all(
            server.address,
            [_body(server, system, story, bench.plan.tokens) for system in rounds[number]],
        )

    with (
        engine_home([subject]),
        tiered_serve(subject.model_id) as ours,
        mlx_lm_server(subject.folder, subject.adapter) as theirs,
    ):
        crowds = interleave_warm(
            bench.plan.runs, lambda n: crowd(ours, n), lambda n: crowd(theirs, n)
        )
    part = bench.part("serve")
    note = f"{clients} clients"
    rates = [(one.rate, other.rate) for one, other in crowds]
    firsts = [(1e3 * one.first, 1e3 * other.first) for one, other in crowds]
    slowest = [(one.slowest, one.median) for one, _ in crowds]
    return [
        part.paired("serve", "tokens/s", rates, MLX_LM_SERVER, note),
        part.paired("serve_first_token", "ms", firsts, MLX_LM_SERVER, note),
        part.paired("serve_slowest", "s", slowest, "median client", note),
    ]


def _body(server: Served, system: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    return {
        "model": server.model,
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": prompt},
        ],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
