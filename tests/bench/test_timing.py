"""One prompt and the time of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llm_tiered.bench import masks
from llm_tiered.bench.timing import Prompts, ask, submit
from llm_tiered.errors import ModelUnavailable
from llm_tiered.mlx.engine.engine import ENGINE
from tests.mlx.models import local_model
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.bench.parts import Bench
    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)


def test_ask(bench: Bench) -> None:
    """An answer has its tokens, its time to first token, its total time and its memory."""
    answer = ask(bench.model, "Hello", max_tokens=6)
    assert answer.output_tokens == 6
    assert answer.prompt_tokens > 6
    assert 0 < answer.ttft < answer.total
    assert answer.peak_memory > 0
    assert answer.after(1.0).ttft == answer.ttft + 1


def test_tokens_that_make_no_answer(tmp_path: Path, scripts: Scripts) -> None:
    """The tokens are timed, whether or not they make an answer."""
    model = local_model(build("qwen3", tmp_path / "qwen3", layers=1), "mlx/thinker")
    for script in ("", "<think>", "<think>Let me see."):
        scripts.say(script, free=True)
        assert ask(model, "Hello", max_tokens=5).output_tokens == 5


def test_submit(bench: Bench) -> None:
    """JSON may be truncated, and a budget that is too small is an error."""
    answer = submit(bench.model, "Hello", max_tokens=6, schema=masks.SCHEMA)
    assert answer.output_tokens == 6
    ENGINE.close()
    with pytest.raises(ModelUnavailable, match="of memory"):
        submit(bench.model, "Hello", max_tokens=6, budget=1000)


def test_story(bench: Bench) -> None:
    """A story has the requested length, and only a new system prompt makes its prefill complete."""
    prompts = Prompts(bench.tokenizer)
    story = prompts.story(100)
    assert 80 < len(bench.tokenizer.encode(story)) < 120
    first, second = prompts.new_system(), prompts.new_system()
    answers = [ask(bench.model, story, system=one, max_tokens=1) for one in (first, second, second)]
    assert [answer.cached_tokens > 20 for answer in answers] == [False, False, True]


def test_system_prompts_have_one_length(bench: Bench) -> None:
    """All system prompts have the same number of tokens, or a GPU would compile kernels again."""
    prompts = Prompts(bench.tokenizer)
    assert len({len(bench.tokenizer.encode(prompts.new_system())) for _ in range(120)}) == 1
