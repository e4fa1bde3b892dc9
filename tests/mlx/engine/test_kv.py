"""What a model has read before is not read again, and nobody can tell from the answers."""

from __future__ import annotations

import json
import queue
from typing import TYPE_CHECKING, Any

import llm
import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.engine import ENGINE, Engine
from llm_tiered.mlx.engine.kv import MAX_ENTRIES, PrefixCache
from llm_tiered.mlx.engine.loading import PREFIX_CACHE_SHARE
from llm_tiered.mlx.engine.requests import CancelToken, Event, GenerationRequest, Limits
from llm_tiered.mlx.models import MlxModel
from llm_tiered.mlx.weights.inspect import inspect_folder
from tests.mlx.engine.talk import Step, Talk, steps, wait
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NAME = "mlx/kv"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
PLENTY = 10**9

Ids = tuple[int, ...]

WIDTH = 4
TOKEN_BYTES = 2 * WIDTH * 4


def cache_of(tokens: Sequence[int]) -> list[Any]:
    """A cache in which the keys and values of each token are the token itself."""
    from mlx_lm.models.cache import KVCache

    held = mx.array(list(tokens), mx.float32).reshape(1, 1, -1, 1) * mx.ones((1, 1, 1, WIDTH))
    cache = KVCache()
    cache.keys = cache.values = held
    cache.offset = len(tokens)
    return [cache]


def held_by(cache: Any) -> Ids:
    """The tokens that a cache holds."""
    if cache is None:
        return ()
    keys = cache[0].keys[0, 0, : cache[0].offset, 0]
    return tuple(int(token) for token in keys.tolist())


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two prompts have in common at their beginning."""
    return next(
        (n for n, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]),
        min(len(left), len(right)),
    )


prompts = st.lists(st.integers(1, 3), min_size=1, max_size=7).map(tuple)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(prompts, max_size=8), st.lists(prompts, min_size=1, max_size=4))
def test_longest_known_beginning(stored: list[Ids], asked: list[Ids]) -> None:
    """A prompt gets the longest beginning that is known, its own and nothing else."""
    prefixes = PrefixCache(PLENTY)
    for tokens in stored:
        prefixes.store(tokens, cache_of(tokens))
    for tokens in asked:
        cache, rest = prefixes.fetch(tokens)
        best = max((common(tokens, known) for known in stored), default=0)
        assert held_by(cache) + tuple(rest) == tokens
        assert len(rest) == len(tokens) - min(best, len(tokens) - 1)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(prompts, prompts), max_size=12), st.integers(0, 20))
def test_bounded_in_bytes(steps: list[tuple[Ids, Ids]], room: int) -> None:
    """However much is kept, it takes no more bytes than allowed, and stays right."""
    prefixes = PrefixCache(room * TOKEN_BYTES)
    for stored, asked in steps:
        prefixes.store(stored, cache_of(stored))
        assert prefixes.nbytes <= room * TOKEN_BYTES
        cache, rest = prefixes.fetch(asked)
        assert rest
        assert held_by(cache) + tuple(rest) == asked


def test_oldest_goes_first() -> None:
    """Where there is no more room, what was stored first goes."""
    prefixes = PrefixCache(3 * TOKEN_BYTES)
    for token in (1, 2, 3, 4):
        prefixes.store([token], cache_of([token]))
    found = [prefixes.fetch([token, 9])[0] is not None for token in (1, 2, 3, 4)]
    assert found == [False, True, True, True]


def test_what_was_used_lately_stays() -> None:
    """A conversation that goes on outlives one that began after it, and has not gone on."""
    prefixes = PrefixCache(7 * TOKEN_BYTES)
    for tokens in ([1, 1], [2, 2]):
        prefixes.store(tokens, cache_of(tokens))
    cache, rest = prefixes.fetch([1, 1, 1])
    assert (held_by(cache), rest) == ((1, 1), [1])
    for tokens in ([1, 1, 1], [3, 3, 3]):
        prefixes.store(tokens, cache_of(tokens))
    assert [prefixes.fetch([token] * 4)[1] for token in (1, 2, 3)] == [[1], [2] * 4, [3]]


def test_bounded_in_entries() -> None:
    """So many are kept, and no more."""
    prefixes = PrefixCache(PLENTY)
    for token in range(MAX_ENTRIES + 5):
        prefixes.store([token], cache_of([token]))
    assert prefixes.nbytes == MAX_ENTRIES * TOKEN_BYTES


def test_copies() -> None:
    """What is done with a cache that was handed out does nothing to the one that is kept."""
    prefixes = PrefixCache(PLENTY)
    prefixes.store([1, 2, 3], cache_of([1, 2, 3]))
    cache, _ = prefixes.fetch([1, 2, 3, 4])
    cache[0].trim(2)
    cache[0].update_and_fetch(mx.zeros((1, 1, 2, WIDTH)), mx.zeros((1, 1, 2, WIDTH)))
    assert held_by(prefixes.fetch([1, 2, 3, 4])[0]) == (1, 2, 3)


def test_cache_that_can_not_be_cut() -> None:
    """A cache that can't be cut serves what goes on where it ends, and nothing else."""
    from mlx_lm.models.cache import RotatingKVCache

    cache = RotatingKVCache(max_size=2)
    for _ in range(3):
        cache.update_and_fetch(mx.zeros((1, 1, 1, WIDTH)), mx.zeros((1, 1, 1, WIDTH)))
    assert not cache.is_trimmable()
    prefixes = PrefixCache(PLENTY)
    prefixes.store([1, 2, 3], [cache])
    assert prefixes.fetch([1, 2, 3, 4])[1] == [4]
    for tokens in ([1, 2, 3], [1, 2], [1, 2, 4]):
        assert prefixes.fetch(tokens) == (None, tokens)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model."""
    return build("qwen2", tmp_path_factory.mktemp("kv"), context=4096)


@pytest.fixture(scope="module")
def model(folder: Path) -> llm.Model:
    """Give it as llm's model."""
    return MlxModel(ModelSpec(model_id=NAME, path=folder), Limits, lambda _: None)


@pytest.fixture(scope="module", params=[PLENTY, None], ids=["plenty of room", "hardly any room"])
def talk(request: pytest.FixtureRequest, folder: Path) -> Iterator[Talk]:
    """Give what talks with the model, where memory is as it is."""
    # Prefixes of about 900 tokens, of 512 bytes each.
    budget = request.param or int(900 * 512 / PREFIX_CACHE_SHARE)
    assert inspect_folder(folder).memory < budget
    engine = Engine()
    yield Talk(engine, NAME, folder, budget)
    engine.close()


def test_memory(folder: Path) -> None:
    """What is kept takes the memory that it says, and not that of the batch it was read in."""
    engine = Engine()
    budget = int(2e6 / PREFIX_CACHE_SHARE)

    def read(number: int) -> queue.SimpleQueue[Event]:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        chat = ({"role": "user", "content": f"{number} " + "and so on " * 40},)
        request = GenerationRequest(NAME, folder, budget, chat, 3 + number)
        engine.submit(request, events.put, CancelToken())
        return events

    wait(read(0))
    before = mx.get_active_memory()
    for waiting in [read(number) for number in range(16)]:
        wait(waiting)
    wait(read(0))
    assert mx.get_active_memory() - before < 3e6
    engine.close()


@settings(max_examples=6, deadline=None, derandomize=True, database=None)
@given(st.lists(st.lists(steps, min_size=1, max_size=4), min_size=1, max_size=4))
def test_answers_are_those_of_a_full_reading(talk: Talk, rounds: list[list[Step]]) -> None:
    """Conversations that go on, fork, are cut and cancelled, several at once, change no answer."""
    talk.compare(rounds)


def cached(response: llm.Response) -> int:
    """How many tokens of an answer's prompt were not read again."""
    response.text()
    details: Any = response.usage().details
    assert details is None or details["cached_tokens"] > 0
    return details["cached_tokens"] if details else 0


def test_conversation(model: llm.Model) -> None:
    """The turns so far are not read again, each time one is added, nor on another way on."""
    conversation = model.conversation()
    questions = ("Let us talk about scales.", "Which one?", "Why?")
    counts, lengths = [], []
    for question in questions:
        turn = conversation.prompt(question, **GREEDY)
        counts.append(cached(turn))
        lengths.append(turn.usage().input or 0)
    # The line break that a prompt ends with may become one token with what follows.
    assert lengths[0] - 1 <= counts[1] < lengths[1] - 1 <= counts[2] < lengths[2]
    fork = llm.Conversation(model=model, responses=conversation.responses[:1])
    assert lengths[0] - 1 <= cached(fork.prompt("No, chords!", **GREEDY)) < lengths[1]


def test_same_prompt_again(model: llm.Model) -> None:
    """Of a prompt that was read before only the last token is read again."""
    first = model.prompt("The same, please.", **GREEDY)
    first.text()
    again = model.prompt("The same, please.", **GREEDY)
    assert cached(again) == (again.usage().input or 0) - 1
    assert again.text() == first.text()


def test_cancelled_prompt(model: llm.Model) -> None:
    """What was read for an answer that nobody waits for serves the next one."""
    pieces = iter(model.prompt("Never mind that one.", temperature=0, max_tokens=500))
    next(pieces)
    del pieces
    model.prompt("Something else.", **GREEDY).text()
    response = model.prompt("Never mind that one.", **GREEDY)
    assert cached(response) == (response.usage().input or 0) - 1


def test_tiered(folder: Path, config_file: Path) -> None:
    """A conversation through `tiered` is not read again either, and its usage says so."""
    tiers = [{"name": "all", "complexity": "1-10", "model": "mlx/kv-tier"}]
    declared = [{"id": "mlx/kv-tier", "path": str(folder)}]
    config_file.write_text(json.dumps({"models": declared, "tiers": tiers, "log_api": False}))
    conversation = llm.get_model("tiered").conversation()
    first = conversation.prompt("Let us talk about scales.", max_tokens=8)
    assert cached(first) == 0
    second = conversation.prompt("Which one?", max_tokens=8)
    assert cached(second) >= (first.usage().input or 0) - 1
    assert list(ENGINE.resident())[-1] == "mlx/kv-tier"
