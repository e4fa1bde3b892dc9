"""The servers that a prompt has passed through."""

from __future__ import annotations

import asyncio

from llm_tiered import passage


def test_way() -> None:
    """Each server adds itself, and knows that it was there before."""

    async def pass_through(server: str, header: str) -> tuple[bool, str]:
        again = passage.enter(server, header)
        return again, (await asyncio.to_thread(passage.headers))[passage.HEADER]

    assert passage.headers() == {}
    assert asyncio.run(pass_through("a", "")) == (False, "a")
    assert asyncio.run(pass_through("b", "a")) == (False, "a, b")
    assert asyncio.run(pass_through("a", "a, b")) == (True, "a, b, a")
    assert passage.headers() == {}
