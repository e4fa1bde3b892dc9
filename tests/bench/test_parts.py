from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import llm
import pytest

from llm_tiered.bench import masks, pairs, parts
from llm_tiered.bench.ask import Texts, ask, submit
from llm_tiered.errors import ModelUnavailable
from llm_tiered.json_schema import validate
from llm_tiered.mlx.engine.engine import ENGINE

if TYPE_CHECKING:
    from llm_tiered.bench.figures import Figure
    from llm_tiered.bench.parts import Bench


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    """Give the figures by their names, each of them compared in a sane way."""
    for figure in figures:
        assert figure.model == "mlx/tiny"
        assert figure.value > 0
        if figure.against is not None:
            assert figure.baseline is not None
            assert figure.ratio is not None
            assert figure.quartiles is not None
            assert figure.baseline > 0
            assert 0 < figure.quartiles[0] <= figure.ratio <= figure.quartiles[1]
    return {figure.name: figure for figure in figures}


# Asking


def test_ask_counts_and_times(bench: Bench) -> None:
    """An answer has its tokens, the time to its first piece and the time to its end."""
    answer = ask(bench.model, "Hello", max_tokens=6)
    assert answer.tokens == 6
    assert answer.prompt_tokens > 6
    assert 0 < answer.first < answer.total
    assert answer.peak_memory > 0
    assert answer.later(1.0).first == answer.first + 1


def test_submit_takes_what_llm_does_not(bench: Bench) -> None:
    """A JSON may be cut off there, and a budget that is too small is told."""
    answer = submit(bench.model, "Hello", max_tokens=6, schema=masks.SCHEMA)
    assert answer.tokens == 6
    ENGINE.close()
    with pytest.raises(ModelUnavailable, match="of memory"):
        submit(bench.model, "Hello", max_tokens=6, budget=1000)


def test_a_new_system_prompt_keeps_nothing(bench: Bench) -> None:
    """A story is as long as it is wanted; only with a system prompt of its own is it read anew."""
    texts = Texts(bench.tokenizer)
    story = texts.story(100)
    assert 80 < len(bench.tokenizer.encode(story)) < 120
    first, second = texts.system(), texts.system()
    asked = [ask(bench.model, story, system=one, max_tokens=1) for one in (first, second, second)]
    assert [answer.cached_tokens > 20 for answer in asked] == [False, False, True]


def test_system_prompts_are_of_one_length(bench: Bench) -> None:
    """The hundredth is as long as the first: else a GPU would compile kernels in between."""
    texts = Texts(bench.tokenizer)
    assert len({len(bench.tokenizer.encode(texts.system())) for _ in range(120)}) == 1


# Of one model


def test_load(bench: Bench) -> None:
    """Both ways of loading have a time and a peak of memory, which holds the weights."""
    figures = by_name(parts.load(bench))
    assert {name: figure.unit for name, figure in figures.items()} == {
        "load": "s",
        "peak_memory": "bytes",
    }
    weights = (bench.subject.folder / "model.safetensors").stat().st_size
    memory = figures["peak_memory"]
    assert memory.baseline is not None
    assert min(memory.value, memory.baseline) > weights


def test_raw(bench: Bench) -> None:
    """The first token and both rates are there, next to those of mlx_lm, for the same prompt."""
    figures = by_name(parts.raw(bench))
    assert {name: (figure.unit, figure.against) for name, figure in figures.items()} == {
        "first_token": ("ms", "mlx_lm"),
        "prompt": ("tokens/s", "mlx_lm"),
        "generation": ("tokens/s", "mlx_lm"),
        "processor": ("s", "mlx_lm"),
    }
    assert figures["generation"].note == "4 tokens"


def test_raw_needs_room_for_two(bench: Bench) -> None:
    """Where two copies don't fit, it says so instead of making the machine swap."""
    bench.budget = 2 * bench.memory - 1
    with pytest.raises(ModelUnavailable, match="two copies of the model need"):
        parts.raw(bench)


def test_batch(bench: Bench) -> None:
    """Prompts at once are compared with the same number one by one."""
    figure = by_name(parts.batch(bench))["batch"]
    assert (figure.against, figure.note, figure.unit) == ("one by one", "2 prompts", "tokens/s")


def test_schema(bench: Bench) -> None:
    """A schema is compared with none, and its mask is timed at the model's own width."""
    figures = by_name(parts.schema(bench))
    assert figures["schema"].against == figures["schema_processor"].against == "no schema"
    assert figures["mask_mean"].note == figures["mask_p99"].note
    assert str(figures["mask_mean"].note).endswith(" wide")
    assert figures["mask_mean"].value < figures["mask_p99"].value


def test_chat(bench: Bench) -> None:
    """Turns 2 and 3 of a chat of about 600 tokens keep most of them; a chat never seen none."""
    figures = by_name(parts.chat(bench))
    assert list(figures) == ["turn_2", "turn_3"]
    note = str(figures["turn_3"].note).split()
    total, kept = int(note[0]), int(note[2])
    assert 500 < total < 800
    assert kept > 0.8 * total
    assert figures["turn_3"].against == "nothing kept"


# Of two


def test_switch(benches: list[Bench]) -> None:
    """The change is measured with both in memory, and with one in the place of the other."""
    resident, *exchanged = pairs.switch(*benches)
    assert (resident.name, resident.unit, resident.model) == ("switch", "ms", "mlx/tiny")
    figures = by_name(exchanged)
    assert {name: (figure.unit, figure.against) for name, figure in figures.items()} == {
        "exchange": ("s", "no other"),
        "exchange_memory": ("bytes", "the larger one"),
    }
    assert all("mlx/other" in f"{figure.note}" for figure in (resident, *exchanged))


def test_the_exchange_is_one(benches: list[Bench]) -> None:
    """Under the budget that it is measured with, one model really takes the other's place."""
    one, other = benches
    budget = max(one.memory, other.memory)
    for bench in (other, one):
        submit(bench.model, "Hello", max_tokens=1, budget=budget)
        assert list(ENGINE.resident()) == [bench.subject.model_id]


def test_models_that_do_not_fit_together(benches: list[Bench]) -> None:
    """Two models that can't both be in memory are only exchanged."""
    one, other = benches
    one.budget = one.memory + other.memory - 1
    names = [figure.name for figure in pairs.switch(one, other)]
    assert names == ["exchange", "exchange_memory"]


def test_overhead(bench: Bench) -> None:
    """What `tiered` adds is a difference of milliseconds, and nothing is logged."""
    [figure] = pairs.overhead(bench)
    assert (figure.name, figure.unit, figure.model) == ("tiered", "ms", None)
    assert not (llm.user_dir() / "logs.db").exists()


# The mask


def test_the_schema_takes_its_answer() -> None:
    """The answer that masks are timed with is one that the schema allows, but for its length."""
    schema = masks.SCHEMA["properties"]["exercises"]["items"]
    validate(f"{masks.ANSWER}]}}", {"properties": {"exercises": {"items": schema}}})


def test_mask_at_the_width_of_qwen() -> None:
    """The mask is timed at 151,936 for no model in particular."""
    mean, p99 = masks.of_wide_model(1)
    assert (mean.name, p99.name, mean.unit) == ("mask_mean", "mask_p99", "µs")
    assert (mean.note, mean.model) == ("151,936 wide", None)
    assert 0 < mean.value < p99.value


def test_plan_counts(bench: Bench) -> None:
    """The batch and the answers are as large as the plan says."""
    bench.plan = replace(bench.plan, batch=3, tokens=5, runs=1)
    assert parts.batch(bench)[0].note == "3 prompts"
    assert by_name(parts.raw(bench))["generation"].note == "5 tokens"
