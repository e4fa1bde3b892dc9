"""What a tier with a server costs beyond OpenAI's client alone, with a server without a model."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm

from .figures import Figure, Part, interleave, interleave_warm
from .home import home_with
from .servers import paced_server

if TYPE_CHECKING:
    from .parts import Plan
    from .servers import Served

PROMPT = "Say hello."
OPENAI = "openai"

# Rows that are asked at the same time, and milliseconds between two tokens of each answer: a busy
# server's pace.
ROWS, PACE = 256, 40

# Tokens of an answer that comes as fast as it can be read.
LONG = 1_000

# Differences of milliseconds need more rounds than ratios do, and each round is short.
MORE_ROUNDS = 10


def endpoints(plan: Plan) -> list[Figure]:
    """Measure time to first token, time per token, and the throughput of many rows at once.

    Nothing is logged, and no complexity estimated: OpenAI's client does neither.
    """
    with tempfile.TemporaryDirectory(prefix="llm-tiered-bench.") as name, paced_server() as server:
        tier = {
            "name": "all",
            "complexity": "1-10",
            "model": server.model,
            "server": _address(server),
        }
        with home_with(Path(name), {"tiers": [tier], "log_api": False}):
            return [*_alone(server, plan), _crowd(server, plan)]


def _address(server: Served) -> str:
    host, port = server.address
    return f"http://{host}:{port}/v1"


def _alone(server: Served, plan: Plan) -> list[Figure]:
    import openai

    tiered: Any = llm.get_model("tiered")
    with openai.OpenAI(base_url=_address(server), api_key="none", max_retries=0) as client:

        def ours(tokens: int) -> tuple[float, float]:
            started, first = time.perf_counter(), 0.0
            response = tiered.prompt(PROMPT, max_tokens=tokens, complexity=5)
            for event in response.stream_events():
                first = first or (time.perf_counter() - started if event.chunk else 0.0)
            return first, time.perf_counter() - started

        def theirs(tokens: int) -> tuple[float, float]:
            started, first = time.perf_counter(), 0.0
            for chunk in client.chat.completions.create(**_asked(server, tokens, pause=0)):
                text = chunk.choices and chunk.choices[0].delta.content
                first = first or (time.perf_counter() - started if text else 0.0)
            return first, time.perf_counter() - started

        ours(1)
        theirs(1)
        rounds = MORE_ROUNDS * plan.runs
        firsts = list(interleave(rounds, lambda _: ours(1), lambda _: theirs(1)))
        wholes = list(interleave(plan.runs, lambda _: ours(LONG), lambda _: theirs(LONG)))
    part = Part("endpoints")
    first = [1e3 * (one[0] - other[0]) for one, other in firsts]
    token = [1e6 * (one[1] - other[1]) / LONG for one, other in wholes]
    return [
        part.median("endpoint_first_token", "ms", first, "added to openai's time to first token"),
        part.median("endpoint_token", "µs", token, "added to openai's time for each token"),
    ]


def _crowd(server: Served, plan: Plan) -> Figure:
    tiered: Any = llm.get_async_model("tiered")

    async def ours() -> None:
        async def ask() -> None:
            response = tiered.prompt(PROMPT, max_tokens=plan.tokens, seed=PACE, complexity=5)
            async for _ in response:
                pass

        await asyncio.gather(*(ask() for _ in range(ROWS)))

    async def theirs() -> None:
        import openai

        async with openai.AsyncOpenAI(
            base_url=_address(server), api_key="none", max_retries=0
        ) as client:

            async def ask() -> None:
                asked = _asked(server, plan.tokens, pause=PACE)
                async for _ in await client.chat.completions.create(**asked):
                    pass

            await asyncio.gather(*(ask() for _ in range(ROWS)))

    def rate(work: Any) -> float:
        started = time.perf_counter()
        asyncio.run(work())
        return ROWS * plan.tokens / (time.perf_counter() - started)

    pairs = interleave_warm(plan.runs, lambda _: rate(ours), lambda _: rate(theirs))
    note = f"{ROWS} rows at once"
    return Part("endpoints").paired("endpoint_rows", "tokens/s", pairs, OPENAI, note)


def _asked(server: Served, tokens: int, *, pause: int) -> dict[str, Any]:
    return {
        "model": server.model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": tokens,
        "seed": pause,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
