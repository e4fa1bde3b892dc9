"""What is measured of each model by itself, part by part."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import llm

from ..errors import ModelUnavailable
from ..mlx import device
from ..mlx.engine.engine import ENGINE
from ..mlx.weights.inspect import inspect_folder
from . import masks
from .ask import Answer, Texts, ask, rest, submit
from .figures import Figure, Measured, in_turn, warmed_up
from .raw import Raw

if TYPE_CHECKING:
    from .home import Subject

MLX_LM = "mlx_lm"

# A prompt has so many times the tokens of its answer.
PROMPT_SHARE = 4

# A chat that has about 600 tokens at its third turn.
OPENING, REPLY = 500, 24
QUESTIONS = {
    2: "And what did the bird say to the fox on the other side?",
    3: "Did the two of them ever meet? Tell me how it went.",
}


@dataclass(frozen=True)
class Plan:
    """What to measure, and how much: rounds, tokens of an answer, prompts of a batch."""

    parts: tuple[str, ...]
    runs: int
    tokens: int
    batch: int


class Bench:
    """A model that is to be measured. Only inside a `home` that has it.

    `budget` is the memory for all models, in bytes.
    """

    def __init__(self, subject: Subject, plan: Plan, budget: int) -> None:
        from mlx_lm.utils import load_tokenizer

        self.subject = subject
        self.plan = plan
        self.budget = budget
        self.model: Any = llm.get_model(subject.model_id)
        self.tokenizer: Any = load_tokenizer(subject.folder)
        self.texts = Texts(self.tokenizer)
        self.memory = inspect_folder(subject.folder).memory

    def measured(self, part: str) -> Measured:
        """A figure of this model."""
        return Measured(part, self.subject.model_id)

    def systems(self) -> list[str]:
        """A new system prompt for each round, and for one to warm up."""
        return [self.texts.system() for _ in range(self.plan.runs + 1)]

    def raw(self) -> Raw:
        """The model without this package."""
        return Raw(self.subject.folder, self.subject.adapter)


def empty() -> None:
    """Let go of all models, and count memory anew."""
    import mlx.core as mx

    ENGINE.close()
    device.run_apart(mx.reset_peak_memory)


def load(bench: Bench) -> list[Figure]:
    """Seconds from no model in memory to a first token, and the most memory up to there."""

    def ours(_: int) -> Answer:
        empty()
        return ask(bench.model, "Hello", max_tokens=1)

    def theirs(_: int) -> Answer:
        empty()
        started = time.perf_counter()
        with bench.raw() as raw:
            loaded = time.perf_counter() - started
            return raw.ask("Hello", max_tokens=1).later(loaded)

    pairs = list(in_turn(bench.plan.runs, ours, theirs))
    measured = bench.measured("load")
    memory = [(one.peak_memory, other.peak_memory) for one, other in pairs]
    return [
        measured.beside("load", "s", [(one.first, other.first) for one, other in pairs], MLX_LM),
        measured.beside("peak_memory", "bytes", memory, MLX_LM),
    ]


def raw(bench: Bench) -> list[Figure]:
    """The same prompts through llm and through mlx_lm, both with the model in memory."""
    if 2 * bench.memory > bench.budget:
        raise ModelUnavailable(
            f"two copies of the model need {2 * bench.memory / 1e9:.1f} GB of memory, "
            f"and models may use {bench.budget / 1e9:.1f} GB",
            fix="memory_limit in the config",
        )
    systems, tokens = bench.systems(), bench.plan.tokens
    story = bench.texts.story(PROMPT_SHARE * tokens)
    empty()
    with bench.raw() as raw:
        pairs = warmed_up(
            bench.plan.runs,
            lambda n: ask(bench.model, story, system=systems[n], max_tokens=tokens),
            lambda n: raw.ask(story, system=systems[n], max_tokens=tokens),
        )
    measured = bench.measured("raw")
    read, said = pairs[-1][0].prompt_tokens, pairs[-1][0].tokens
    firsts = [(1e3 * one.first, 1e3 * other.first) for one, other in pairs]
    prompts = [(one.prompt_rate, other.prompt_rate) for one, other in pairs]
    rates = [(one.rate, other.rate) for one, other in pairs]
    spent = [(one.processor, other.processor) for one, other in pairs]
    return [
        measured.beside("first_token", "ms", firsts, MLX_LM, f"{read} tokens read"),
        measured.beside("prompt", "tokens/s", prompts, MLX_LM, f"{read} tokens read"),
        measured.beside("generation", "tokens/s", rates, MLX_LM, f"{said} tokens"),
        measured.beside("processor", "s", spent, MLX_LM, "for a whole answer"),
    ]


def batch(bench: Bench) -> list[Figure]:
    """Prompts at once, and the same number one by one: tokens generated per second."""
    model: Any = llm.get_async_model(bench.subject.model_id)
    number, tokens = bench.plan.batch, bench.plan.tokens
    story = bench.texts.story(tokens)

    async def answer() -> int:
        response = model.prompt(
            story, system=bench.texts.system(), temperature=0, max_tokens=tokens
        )
        await response
        return response.output_tokens or 0

    async def together() -> int:
        return sum(await asyncio.gather(*(answer() for _ in range(number))))

    async def one_by_one() -> int:
        return sum([await answer() for _ in range(number)])

    def rate(work: Any) -> float:
        started = time.perf_counter()
        generated: int = asyncio.run(work())
        seconds = time.perf_counter() - started
        rest(seconds / tokens)
        return generated / seconds

    pairs = warmed_up(bench.plan.runs, lambda _: rate(together), lambda _: rate(one_by_one))
    note = f"{number} prompts"
    return [bench.measured("batch").beside("batch", "tokens/s", pairs, "one by one", note)]


def schema(bench: Bench) -> list[Figure]:
    """Answers with a JSON Schema and without, and what its mask takes by itself."""
    tokens = bench.plan.tokens
    story = bench.texts.story(tokens)

    def answer(schema: dict[str, Any] | None) -> Answer:
        system = bench.texts.system()
        return submit(bench.model, story, system=system, schema=schema, max_tokens=tokens)

    pairs = warmed_up(bench.plan.runs, lambda _: answer(masks.SCHEMA), lambda _: answer(None))
    rates = [(one.rate, other.rate) for one, other in pairs]
    spent = [(one.processor, other.processor) for one, other in pairs]
    measured = bench.measured("schema")
    figures = [
        measured.beside("schema", "tokens/s", rates, "no schema"),
        measured.beside("schema_processor", "s", spent, "no schema", "for a whole answer"),
    ]
    return [*figures, *masks.of_model(bench.subject, bench.tokenizer, bench.plan.runs)]


def chat(bench: Bench) -> list[Figure]:
    """The first token of a chat's later turns, and of the same chat never seen before."""
    pairs: dict[int, list[tuple[Answer, Answer]]] = {turn: [] for turn in QUESTIONS}
    opening = bench.texts.story(OPENING)
    for system in bench.systems():
        conversation = bench.model.conversation()
        ask(conversation, opening, system=system, max_tokens=REPLY)
        for turn, question in QUESTIONS.items():
            kept = ask(conversation, question, max_tokens=REPLY)
            _, *messages = conversation.responses[-1].prompt.messages
            messages.insert(0, llm.system(bench.texts.system()))
            pairs[turn].append((kept, ask(bench.model, None, messages=messages, max_tokens=1)))
    measured = bench.measured("chat")
    figures = []
    # The first round only warms up.
    for turn, (_, *answers) in pairs.items():
        firsts = [(1e3 * kept.first, 1e3 * anew.first) for kept, anew in answers]
        last = answers[-1][0]
        note = f"{last.prompt_tokens} tokens, {last.cached_tokens} of them kept"
        figures.append(measured.beside(f"turn_{turn}", "ms", firsts, "nothing kept", note))
    return figures
