"""The parts that measure one model."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import llm

from ..errors import EmptyAnswer, ModelUnavailable
from ..mlx import device
from ..mlx.engine.engine import ENGINE
from ..mlx.weights.inspect import inspect_folder
from . import masks
from .baseline import MlxLmBaseline
from .figures import Figure, Part, interleave, interleave_warm
from .timing import Prompts, TimedAnswer, ask, pause, submit

if TYPE_CHECKING:
    from .home import Subject

MLX_LM = "mlx_lm"

# Prompt tokens for each output token.
PROMPT_SHARE = 4

# Tokens of the first prompt and of each reply: a chat has about 600 tokens at its third turn.
OPENING, REPLY = 500, 24
QUESTIONS = {
    2: "And what did the bird say to the fox on the other side?",
    3: "Did the two of them ever meet? Tell me how it went.",
}


@dataclass(frozen=True)
class Plan:
    """The parts to measure, rounds per part, output tokens per answer, prompts per batch."""

    parts: tuple[str, ...]
    runs: int
    tokens: int
    batch: int

    @property
    def short_answer(self) -> int:
        """The most output tokens of an answer in the parts that have many of them."""
        return max(self.tokens // 2, 2)


class Bench:
    """A model to measure, inside a `home` that has it.

    `memory` is what the model needs and `budget` what all models may use, in bytes.
    """

    def __init__(self, subject: Subject, plan: Plan, budget: int) -> None:
        from mlx_lm.utils import load_tokenizer

        self.subject = subject
        self.plan = plan
        self.budget = budget
        self.model: Any = llm.get_model(subject.model_id)
        self.tokenizer: Any = load_tokenizer(subject.folder)
        self.prompts = Prompts(self.tokenizer)
        self.memory = inspect_folder(subject.folder).memory

    def part(self, name: str) -> Part:
        """Return this model's part of that name."""
        return Part(name, self.subject.model_id)

    def new_systems(self) -> list[str]:
        """Return a new system prompt for each round, and one for a warm-up round."""
        return [self.prompts.new_system() for _ in range(self.plan.runs + 1)]

    def baseline(self) -> MlxLmBaseline:
        """Return the model without this package."""
        return MlxLmBaseline(self.subject.folder, self.subject.adapter)


def unload_all() -> None:
    """Release all models and reset the peak of memory."""
    import mlx.core as mx

    ENGINE.close()
    device.run_apart(mx.reset_peak_memory)


def load(bench: Bench) -> list[Figure]:
    """Measure time to first token and peak memory, beginning with no model in memory."""

    def ours(_: int) -> TimedAnswer:
        unload_all()
        return ask(bench.model, "Hello", max_tokens=1)

    def theirs(_: int) -> TimedAnswer:
        unload_all()
        started = time.perf_counter()
        with bench.baseline() as baseline:
            loading = time.perf_counter() - started
            return baseline.ask("Hello", max_tokens=1).after(loading)

    pairs = list(interleave(bench.plan.runs, ours, theirs))
    part = bench.part("load")
    ttfts = [(one.ttft, other.ttft) for one, other in pairs]
    memory = [(one.peak_memory, other.peak_memory) for one, other in pairs]
    return [
        part.paired("load", "s", ttfts, MLX_LM),
        part.paired("peak_memory", "bytes", memory, MLX_LM),
    ]


def raw(bench: Bench) -> list[Figure]:
    """Measure prefill and decode through llm and with mlx_lm alone, each with its own copy."""
    if 2 * bench.memory > bench.budget:
        raise ModelUnavailable(
            f"two copies of the model need {2 * bench.memory / 1e9:.1f} GB of memory, "
            f"and models may use {bench.budget / 1e9:.1f} GB",
            fix="memory_limit in the config",
        )
    systems, tokens = bench.new_systems(), bench.plan.tokens
    story = bench.prompts.story(PROMPT_SHARE * tokens)
    unload_all()
    with bench.baseline() as baseline:
        pairs = interleave_warm(
            bench.plan.runs,
            lambda n: ask(bench.model, story, system=systems[n], max_tokens=tokens),
            lambda n: baseline.ask(story, system=systems[n], max_tokens=tokens),
        )
    part = bench.part("raw")
    last, _ = pairs[-1]
    read, written = f"{last.prompt_tokens} prompt tokens", f"{last.output_tokens} output tokens"
    ttfts = [(1e3 * one.ttft, 1e3 * other.ttft) for one, other in pairs]
    prefill = [(one.prefill_rate, other.prefill_rate) for one, other in pairs]
    decode = [(one.decode_rate, other.decode_rate) for one, other in pairs]
    cpu = [(one.cpu, other.cpu) for one, other in pairs]
    return [
        part.paired("first_token", "ms", ttfts, MLX_LM, read),
        part.paired("prompt", "tokens/s", prefill, MLX_LM, read),
        part.paired("generation", "tokens/s", decode, MLX_LM, written),
        part.paired("processor", "s", cpu, MLX_LM, "for a whole answer"),
    ]


def batch(bench: Bench) -> list[Figure]:
    """Measure output tokens per second of concurrent prompts and of sequential ones."""
    model: Any = llm.get_async_model(bench.subject.model_id)
    number, tokens = bench.plan.batch, bench.plan.tokens
    story = bench.prompts.story(tokens)

    async def answer() -> int:
        options = {"temperature": 0, "max_tokens": tokens, "thinking": False}
        response = model.prompt(story, system=bench.prompts.new_system(), options=options)
        with suppress(EmptyAnswer):
            await response
        return response.output_tokens or 0

    async def concurrent() -> int:
        return sum(await asyncio.gather(*(answer() for _ in range(number))))

    async def sequential() -> int:
        return sum([await answer() for _ in range(number)])

    def rate(work: Any) -> float:
        started = time.perf_counter()
        output_tokens: int = asyncio.run(work())
        seconds = time.perf_counter() - started
        pause(seconds / tokens)
        return output_tokens / seconds

    pairs = interleave_warm(bench.plan.runs, lambda _: rate(concurrent), lambda _: rate(sequential))
    note = f"{number} prompts"
    return [bench.part("batch").paired("batch", "tokens/s", pairs, "sequential", note)]


def schema(bench: Bench) -> list[Figure]:
    """Measure decode with a JSON Schema and without, and the time of the schema's mask."""
    tokens = bench.plan.tokens
    story = bench.prompts.story(tokens)

    def answer(schema: dict[str, Any] | None) -> TimedAnswer:
        system = bench.prompts.new_system()
        return submit(bench.model, story, system=system, schema=schema, max_tokens=tokens)

    pairs = interleave_warm(bench.plan.runs, lambda _: answer(masks.SCHEMA), lambda _: answer(None))
    decode = [(one.decode_rate, other.decode_rate) for one, other in pairs]
    cpu = [(one.cpu, other.cpu) for one, other in pairs]
    part = bench.part("schema")
    figures = [
        part.paired("schema", "tokens/s", decode, "no schema"),
        part.paired("schema_processor", "s", cpu, "no schema", "for a whole answer"),
    ]
    return [*figures, *masks.of_model(bench.subject, bench.tokenizer, bench.plan.runs)]


def chat(bench: Bench) -> list[Figure]:
    """Measure the time to first token of later turns, with the KV cache and without."""
    pairs: dict[int, list[tuple[TimedAnswer, TimedAnswer]]] = {turn: [] for turn in QUESTIONS}
    opening = bench.prompts.story(OPENING)
    for system in bench.new_systems():
        conversation = bench.model.conversation()
        ask(conversation, opening, system=system, max_tokens=REPLY)
        for turn, question in QUESTIONS.items():
            cached = ask(conversation, question, max_tokens=REPLY)
            _, *messages = conversation.responses[-1].prompt.messages
            messages.insert(0, llm.system(bench.prompts.new_system()))
            pairs[turn].append((cached, ask(bench.model, None, messages=messages, max_tokens=1)))
    part = bench.part("chat")
    figures = []
    # The first round is a warm-up.
    for turn, (_, *answers) in pairs.items():
        ttfts = [(1e3 * cached.ttft, 1e3 * new.ttft) for cached, new in answers]
        last, _ = answers[-1]
        note = f"{last.prompt_tokens} prompt tokens, {last.cached_tokens} of them in the KV cache"
        figures.append(part.paired(f"turn_{turn}", "ms", ttfts, "no KV cache", note))
    return figures
