"""KV caches that can't be trimmed are reused too: linear attention and sliding windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_tiered.mlx.engine.batch import Batch
from llm_tiered.mlx.engine.engine import Engine
from llm_tiered.mlx.engine.kv import PrefixCache
from llm_tiered.mlx.engine.kv_disk import KvStore
from tests.mlx.engine.batches import start_together
from tests.mlx.engine.client import PLENTY, Answer, Call, make_request
from tests.mlx.engine.conversations import Conversations, Step, steps
from tests.tiny_models import Family, build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

FAMILIES: tuple[Family, ...] = ("qwen3_next", "qwen3_5", "gemma3_text")
SYSTEM = "You are a helpful assistant. You answer questions briefly, and you say so when you don't."
QUESTION = "Let us talk about scales, about their notes, and about the chords on each. " * 2
ANSWER, REPLY = "All right.", "And which of them has no sharps and no flats at all?"
ROOM = 100_000  # bytes: enough for a few short conversations
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "little room": {},
    "kv_bits": {"kv_bits": 8},
    "penalty": {"sampling": {"temperature": 0.0, "repetition_penalty": 1.5}},
    "schema": {"schema": SCHEMA},
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of each family."""
    folder = tmp_path_factory.mktemp("caches") / request.param
    return build(request.param, folder, hidden=128, context=4096)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine in which nothing is known yet."""
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def _empty_prefix_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be known except what is on disk, as in a new process."""
    monkeypatch.setattr(PrefixCache, "fetch", lambda _, tokens, __: (None, list(tokens)))


def ask(engine: Engine, folder: Path, *turns: str, **fields: Any) -> Answer:
    """Return a model's answer to the last turn."""
    request = make_request(folder, *turns, **({"max_tokens": 8} | fields))
    return Call(request, engine).submit().answer()


def with_system(folder: Path, text: str, question: str) -> Any:
    """Return a request with a system prompt."""
    chat = ({"role": "system", "content": text}, {"role": "user", "content": question})
    request = make_request(folder, max_tokens=8)
    return type(request)(**{**vars(request), "chat": chat})


def limit_prefixes(patch: pytest.MonkeyPatch, room: int) -> None:
    """Limit the prefix cache of models that are loaded from now on, in bytes."""
    patch.setattr("llm_tiered.mlx.engine.loading.PREFIX_CACHE_SHARE", room / PLENTY)


def left(answer: Answer) -> int:
    """Return the number of the prompt's tokens that were processed."""
    return answer.done.prompt_tokens - answer.done.cached_tokens


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=1, deadline=None, derandomize=True, database=None)
@given(rounds=st.lists(st.lists(steps, min_size=1, max_size=3), min_size=3, max_size=3))
def test_answers_are_those_without_a_cache(
    kind: str, folder: Path, rounds: list[list[Step]]
) -> None:
    """Conversations that continue, branch off, or are cut or cancelled get the same answers."""
    engine = Engine()
    with pytest.MonkeyPatch.context() as patch:
        limit_prefixes(patch, ROOM if kind == "little room" else PLENTY)
        assert Conversations(engine, folder, KINDS[kind]).compare(rounds) > 0
        engine.close()


def test_next_turn(engine: Engine, folder: Path, scripts: Scripts) -> None:
    """The next turn processes only what is new, from the end of the last answer on."""
    turn_end = "<end_of_turn>" if folder.name == "gemma3_text" else "<|im_end|>"
    turns = [QUESTION]
    before = 0
    for question in (REPLY, "Why?", "Really?"):
        scripts.say(ANSWER, turn_end)
        # The token that reaches the limit is not passed to the model, and with linear attention
        # neither are the last ones that were guessed: the next turn processes them first.
        done = ask(engine, folder, *turns, max_tokens=9, prompt_lookup=False).done
        assert done.cached_tokens >= before
        before = done.prompt_tokens + done.generation_tokens
        turns += [ANSWER, question]


def test_other_answer(engine: Engine, folder: Path) -> None:
    """An answer that comes back differently, as without its reasoning, is all that is lost.

    As in mlx_lm.server, that is the answer and the last token before it.
    """
    first = ask(engine, folder, QUESTION, max_tokens=60)
    second = ask(engine, folder, QUESTION, ANSWER, REPLY)
    assert second.done.cached_tokens == first.done.prompt_tokens - 1
    assert second.matches(ask(engine, folder, QUESTION, ANSWER, REPLY, seed=0))


def test_fork(engine: Engine, folder: Path) -> None:
    """A conversation that branches off at an earlier turn finds it, whatever came later."""
    first = ask(engine, folder, QUESTION)
    ask(engine, folder, QUESTION, first.text, REPLY, ANSWER, "Why?")
    fork = ask(engine, folder, QUESTION, first.text, "No, chords!")
    assert fork.done.cached_tokens > first.done.prompt_tokens
    assert fork.matches(ask(engine, folder, QUESTION, first.text, "No, chords!", seed=0))


def test_shared_system_prompt(engine: Engine, folder: Path) -> None:
    """A new conversation with the same system prompt processes only its question."""
    requests = [with_system(folder, SYSTEM, each) for each in (QUESTION, REPLY)]
    first, second = (Call(each, engine).submit().answer() for each in requests)
    assert first.done.cached_tokens == 0
    assert left(second) <= ask(engine, folder, REPLY, seed=0).done.prompt_tokens


def test_conversations_that_take_turns(engine: Engine, folder: Path) -> None:
    """Conversations that take turns don't disturb each other."""
    questions = (QUESTION, REPLY, SYSTEM)
    opened = [ask(engine, folder, each) for each in questions]
    for question, first in zip(questions, opened, strict=True):
        turns = (question, first.text, "Why?")
        turn = ask(engine, folder, *turns)
        assert turn.done.cached_tokens > first.done.prompt_tokens - 8
        assert turn.matches(ask(engine, folder, *turns, seed=0))


def test_batch(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that are served together store what their next turns need."""
    start_together(monkeypatch, 4)
    questions = [QUESTION, REPLY, SYSTEM, "Hello"]
    calls = [Call(make_request(folder, each), engine).submit() for each in questions]
    opened = [call.answer() for call in calls]
    turns = [(each, one.text, "Why?") for each, one in zip(questions, opened, strict=True)]
    calls = [Call(make_request(folder, *each), engine).submit() for each in turns]
    for number, answer in enumerate([call.answer() for call in calls]):
        assert answer.done.cached_tokens > opened[number].done.prompt_tokens - 8
        assert answer.matches(ask(engine, folder, *turns[number], max_tokens=10, seed=0))


def test_model_without_batches(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If mlx-lm can't merge a model's caches, as in Llama 4, requests are served one by one."""
    monkeypatch.setattr("llm_tiered.mlx.engine.layer_caches.can_batch", lambda _: False)
    monkeypatch.setattr(Batch, "add", None)
    calls = [Call(make_request(folder, each), engine).submit() for each in (QUESTION, REPLY)]
    for question, answer in zip((QUESTION, REPLY), [call.answer() for call in calls], strict=True):
        assert answer.matches(ask(engine, folder, question, max_tokens=10, seed=0))


def test_second_request_joins(engine: Engine, folder: Path) -> None:
    """A running answer is the same when another request joins and leaves."""
    expected = ask(engine, folder, QUESTION, max_tokens=80, seed=0)
    long = Call(make_request(folder, QUESTION, max_tokens=80), engine).submit()
    long.wait_for_text()
    short = ask(engine, folder, REPLY)
    assert long.answer().done.generation_tokens == expected.done.generation_tokens
    assert short.matches(ask(engine, folder, REPLY, seed=0))
    again = ask(engine, folder, QUESTION, max_tokens=80)
    assert again.matches(expected)


def test_cancelled(engine: Engine, folder: Path) -> None:
    """A cancelled request leaves nothing that changes a later answer."""
    for count in range(3):
        call = Call(make_request(folder, QUESTION, max_tokens=500), engine).submit()
        for _ in range(count):
            call.next()
        call.cancel_token.cancel()
        again = ask(engine, folder, QUESTION, ANSWER, REPLY)
        assert again.matches(ask(engine, folder, QUESTION, ANSWER, REPLY, seed=0))


def test_draft_model(engine: Engine, folder: Path) -> None:
    """A draft model whose guesses could not be taken back is left out."""
    plain = ask(engine, folder, QUESTION, max_tokens=40)
    assert ask(engine, folder, QUESTION, max_tokens=40, draft=("draft", folder)).matches(plain)


def test_draft_of_another_kind(engine: Engine, tmp_path: Path) -> None:
    """Neither is such a model used as a draft model."""
    target = build("qwen3", tmp_path / "target", context=4096)
    draft = build("qwen3_next", tmp_path / "draft", context=4096)
    plain = ask(engine, target, QUESTION, max_tokens=40)
    assert ask(engine, target, QUESTION, max_tokens=40, draft=("draft", draft)).matches(plain)


def test_bounded_memory(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caches stay within their limit, use what they report, and are let go with the model."""
    limit_prefixes(monkeypatch, ROOM)
    without = mx.get_active_memory()
    ask(engine, folder, "Hi")
    before = mx.get_active_memory()
    for number in range(6):
        ask(engine, folder, f"{number} " + QUESTION)
    ask(engine, folder, "Hi")
    worker = engine._worker
    assert worker is not None
    [model] = worker.pool._models.values()
    assert 0 < model.prefixes.nbytes <= ROOM
    # The last request may still be at work.
    assert mx.get_active_memory() - before < 4 * ROOM
    engine.close()
    assert mx.get_active_memory() - without < ROOM / 10


@pytest.mark.parametrize("room", [PLENTY, ROOM], ids=["room", "hardly any room"])
def test_disk(
    room: int, engine: Engine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new process finds the turns on disk, also if the answer comes back differently."""
    monkeypatch.setattr(PrefixCache, "fetch", lambda _, tokens, __: (None, list(tokens)))
    store = KvStore(tmp_path / "kv", room)
    first = ask(engine, folder, QUESTION, max_tokens=30, kv_store=store)
    for answer in (first.text, ANSWER):
        turns = (QUESTION, answer, REPLY)
        turn = ask(engine, folder, *turns, kv_store=store)
        assert turn.matches(ask(engine, folder, *turns, seed=0))
        assert turn.done.cached_tokens >= first.done.prompt_tokens - 8 or room != PLENTY
        files = list(store.folder.rglob("*.safetensors"))
        assert sum(file.stat().st_size for file in files) <= room


@pytest.mark.usefixtures("_empty_prefix_cache")
def test_answer_that_is_cut_off_on_disk(engine: Engine, folder: Path, tmp_path: Path) -> None:
    """If an answer is cut off among tokens that its schema forces, the question is on disk."""
    store = KvStore(tmp_path / "kv", PLENTY)
    fields: dict[str, Any] = {"schema": {"const": "A scale is a row of notes."}, "kv_store": store}
    ask(engine, folder, QUESTION, max_tokens=3, **fields)
    assert ask(engine, folder, QUESTION, **fields).done.cached_tokens > 0


@pytest.mark.parametrize("kind", ["*.ids", "*.safetensors"])
@pytest.mark.usefixtures("_empty_prefix_cache")
def test_damaged_files(kind: str, engine: Engine, folder: Path, tmp_path: Path) -> None:
    """Files that end too early are processed anew, and written again."""
    store = KvStore(tmp_path / "kv", PLENTY)
    first = ask(engine, folder, QUESTION, kv_store=store)
    turns = (QUESTION, first.text, REPLY)
    expected = ask(engine, folder, *turns, seed=0)
    for file in store.folder.rglob(kind):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 8 * 4])
    damaged = ask(engine, folder, *turns, kv_store=store)
    assert damaged.done.cached_tokens == 0
    again = ask(engine, folder, *turns, kv_store=store)
    assert again.done.cached_tokens > 0
    assert damaged.matches(expected)
    assert again.matches(expected)
