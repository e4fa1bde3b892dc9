"""Clients that read streams at the same time, and the times of what they get."""

from __future__ import annotations

import pytest

from llm_tiered.bench.streams import Crowd, Streamed, ask_all
from llm_tiered.errors import TieredError
from tests.bench.streaming import streaming


def test_every_client_has_its_times_and_tokens() -> None:
    """The first piece of text comes before the end, and the tokens are those of the usage."""
    with streaming("wee") as server:
        crowd = ask_all(server.address, [{"number": number} for number in range(4)])
    assert [one.tokens for one in crowd.answers] == [2] * 4
    assert all(0 < one.first <= one.total for one in crowd.answers)


def test_a_crowd() -> None:
    """Together, clients are as fast as the slowest of them; the median is not."""
    crowd = Crowd((Streamed(1, 2, 10), Streamed(2, 3, 10), Streamed(5, 6, 10)))
    assert (crowd.rate, crowd.first, crowd.median, crowd.slowest) == (5, 2, 3, 6)


@pytest.mark.parametrize("words", [(), ("", "")])
def test_an_answer_without_text_is_an_error(words: tuple[str, ...]) -> None:
    """A server that does not answer is reported with the beginning of what it sent instead."""
    with (
        streaming("wee", words=words) as server,
        pytest.raises(TieredError, match=r"the server did not answer: HTTP/1\.0 200 OK"),
    ):
        ask_all(server.address, [{}])


def test_a_stream_that_breaks_off_is_an_error() -> None:
    """Without the mark at the end of a stream, it is not a whole answer."""
    with (
        streaming("wee", ending=b"") as server,
        pytest.raises(TieredError, match="broke off after 2 tokens"),
    ):
        ask_all(server.address, [{}])
