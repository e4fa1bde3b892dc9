"""The prefix cache: known prefixes are not processed again, which changes no answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_tiered.mlx.engine.engine import ENGINE, Engine
from llm_tiered.mlx.engine.kv import MAX_ENTRIES, PrefixCache
from llm_tiered.mlx.engine.loading import PREFIX_CACHE_SHARE
from llm_tiered.mlx.weights.inspect import inspect_folder
from tests.mlx.engine.client import PLENTY, Call, make_request
from tests.mlx.engine.conversations import Conversations, Step, steps
from tests.mlx.models import local_model
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NAME = "mlx/kv"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8}

Ids = tuple[int, ...]

WIDTH = 4
TOKEN_BYTES = 2 * WIDTH * 4


def cache_of(tokens: Sequence[int]) -> list[Any]:
    """Return a KV cache in which the keys and values of each token are the token itself."""
    from mlx_lm.models.cache import KVCache

    values = mx.array(list(tokens), mx.float32).reshape(1, 1, -1, 1) * mx.ones((1, 1, 1, WIDTH))
    cache = KVCache()
    cache.keys = cache.values = values
    cache.offset = len(tokens)
    return [cache]


def tokens_in(cache: Any) -> Ids:
    """Return the tokens in such a cache."""
    if cache is None:
        return ()
    keys = cache[0].keys[0, 0, : cache[0].offset, 0]
    return tuple(int(token) for token in keys.tolist())


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """Return the length of the common prefix."""
    return next(
        (n for n, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]),
        min(len(left), len(right)),
    )


prompts = st.lists(st.integers(1, 3), min_size=1, max_size=7).map(tuple)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(prompts, max_size=8), st.lists(prompts, min_size=1, max_size=4))
def test_longest_known_prefix(stored: list[Ids], prompts: list[Ids]) -> None:
    """A prompt gets the cache of its longest known prefix, and nothing else."""
    prefixes = PrefixCache(PLENTY)
    for tokens in stored:
        prefixes.store(tokens, cache_of(tokens))
    for tokens in prompts:
        cache, rest = prefixes.fetch(tokens)
        best = max((common_length(tokens, known) for known in stored), default=0)
        assert tokens_in(cache) + tuple(rest) == tokens
        assert len(rest) == len(tokens) - min(best, len(tokens) - 1)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(prompts, prompts), max_size=12), st.integers(0, 20))
def test_bounded_in_bytes(steps: list[tuple[Ids, Ids]], room: int) -> None:
    """The caches never exceed their limit in bytes, and stay correct."""
    prefixes = PrefixCache(room * TOKEN_BYTES)
    for stored, prompt in steps:
        prefixes.store(stored, cache_of(stored))
        assert prefixes.nbytes <= room * TOKEN_BYTES
        cache, rest = prefixes.fetch(prompt)
        assert rest
        assert tokens_in(cache) + tuple(rest) == prompt


def test_oldest_goes_first() -> None:
    """If there is no more room, the cache that was stored first is evicted."""
    prefixes = PrefixCache(3 * TOKEN_BYTES)
    for token in (1, 2, 3, 4):
        prefixes.store([token], cache_of([token]))
    hits = [prefixes.fetch([token, 9])[0] is not None for token in (1, 2, 3, 4)]
    assert hits == [False, True, True, True]


def test_recently_used_stays() -> None:
    """A conversation that continues outlives a later one that does not."""
    prefixes = PrefixCache(7 * TOKEN_BYTES)
    for tokens in ([1, 1], [2, 2]):
        prefixes.store(tokens, cache_of(tokens))
    cache, rest = prefixes.fetch([1, 1, 1])
    assert (tokens_in(cache), rest) == ((1, 1), [1])
    for tokens in ([1, 1, 1], [3, 3, 3]):
        prefixes.store(tokens, cache_of(tokens))
    assert [prefixes.fetch([token] * 4)[1] for token in (1, 2, 3)] == [[1], [2] * 4, [3]]


def test_bounded_in_entries() -> None:
    """At most MAX_ENTRIES caches are kept."""
    prefixes = PrefixCache(PLENTY)
    for token in range(MAX_ENTRIES + 5):
        prefixes.store([token], cache_of([token]))
    assert prefixes.nbytes == MAX_ENTRIES * TOKEN_BYTES


def test_copies() -> None:
    """Changes to a cache that was fetched don't affect the one that is kept."""
    prefixes = PrefixCache(PLENTY)
    prefixes.store([1, 2, 3], cache_of([1, 2, 3]))
    cache, _ = prefixes.fetch([1, 2, 3, 4])
    cache[0].trim(2)
    cache[0].update_and_fetch(mx.zeros((1, 1, 2, WIDTH)), mx.zeros((1, 1, 2, WIDTH)))
    assert tokens_in(prefixes.fetch([1, 2, 3, 4])[0]) == (1, 2, 3)


def test_cache_that_can_not_be_trimmed() -> None:
    """A cache that can't be trimmed serves only prompts that continue where it ends."""
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
    """The folder of a model."""
    return build("qwen2", tmp_path_factory.mktemp("kv"), context=4096)


@pytest.fixture(scope="module")
def model(folder: Path) -> llm.Model:
    """The same model, as llm sees it."""
    return local_model(folder, NAME)


@pytest.fixture(scope="module", params=[PLENTY, None], ids=["plenty of room", "hardly any room"])
def conversations(request: pytest.FixtureRequest, folder: Path) -> Iterator[Conversations]:
    """Conversations with the model, with a large or a small prefix cache."""
    # The small one holds about 900 tokens, of 512 bytes each.
    budget = request.param or int(900 * 512 / PREFIX_CACHE_SHARE)
    assert inspect_folder(folder).memory < budget
    engine = Engine()
    yield Conversations(engine, folder, {"budget": budget})
    engine.close()


def test_memory(folder: Path) -> None:
    """Kept caches use the memory that they report, and not that of the batch they come from."""
    engine = Engine()
    budget = int(2e6 / PREFIX_CACHE_SHARE)

    def start(number: int) -> Call:
        prompt = f"{number} " + "and so on " * 40
        request = make_request(folder, prompt, budget=budget, max_tokens=3 + number, sampling={})
        return Call(request, engine).submit()

    start(0).answer()
    before = mx.get_active_memory()
    for call in [start(number) for number in range(16)]:
        call.answer()
    start(0).answer()
    assert mx.get_active_memory() - before < 3e6
    engine.close()


@settings(max_examples=6, deadline=None, derandomize=True, database=None)
@given(st.lists(st.lists(steps, min_size=1, max_size=4), min_size=1, max_size=4))
def test_answers_are_those_without_a_cache(
    conversations: Conversations, rounds: list[list[Step]]
) -> None:
    """Conversations that continue, branch off, or are cut or cancelled get the same answers."""
    conversations.compare(rounds)


def cached(response: llm.Response) -> int:
    """Return the number of the prompt's tokens that were cached."""
    response.text()
    details: Any = response.usage().details
    assert details is None or details["cached_tokens"] > 0
    return details["cached_tokens"] if details else 0


def test_conversation(model: llm.Model) -> None:
    """The earlier turns of a conversation are cached, also when it branches off."""
    conversation = model.conversation()
    questions = ("Let us talk about scales.", "Which one?", "Why?")
    counts, lengths = [], []
    for question in questions:
        turn = conversation.prompt(question, **GREEDY)
        counts.append(cached(turn))
        lengths.append(turn.usage().input or 0)
    # The line break at the end of a prompt may become one token with what follows.
    assert lengths[0] - 1 <= counts[1] < lengths[1] - 1 <= counts[2] < lengths[2]
    fork = llm.Conversation(model=model, responses=conversation.responses[:1])
    assert lengths[0] - 1 <= cached(fork.prompt("No, chords!", **GREEDY)) < lengths[1]


def test_same_prompt_again(model: llm.Model) -> None:
    """Of a known prompt, only the last token is processed again."""
    first = model.prompt("The same, please.", **GREEDY)
    first.text()
    again = model.prompt("The same, please.", **GREEDY)
    assert cached(again) == (again.usage().input or 0) - 1
    assert again.text() == first.text()


def test_cancelled_prompt(model: llm.Model) -> None:
    """The cache of a cancelled request serves the next one."""
    pieces = iter(model.prompt("Never mind that one.", temperature=0, max_tokens=500))
    next(pieces)
    del pieces
    model.prompt("Something else.", **GREEDY).text()
    response = model.prompt("Never mind that one.", **GREEDY)
    assert cached(response) == (response.usage().input or 0) - 1


def test_tiered(folder: Path, config_file: Path) -> None:
    """The turns of a conversation through `tiered` are cached too, and its usage says so."""
    tiers = [{"name": "all", "complexity": "1-10", "model": "mlx/kv-tier"}]
    models = [{"id": "mlx/kv-tier", "path": str(folder)}]
    config_file.write_text(json.dumps({"models": models, "tiers": tiers, "log_api": False}))
    conversation = llm.get_model("tiered").conversation()
    first = conversation.prompt("Let us talk about scales.", max_tokens=8)
    assert cached(first) == 0
    second = conversation.prompt("Which one?", max_tokens=8)
    assert cached(second) >= (first.usage().input or 0) - 1
    assert list(ENGINE.resident())[-1] == "mlx/kv-tier"
