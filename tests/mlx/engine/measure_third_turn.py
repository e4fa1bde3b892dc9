"""Measure the third turn of a chat of 600 tokens, with what the engine keeps and without.

`python -m tests.mlx.engine.measure_third_turn [FAMILY …]`: random models of these families (see
tests/tiny_models.py), 8 layers of 512. A schema dictates the answers, because those of a random
model have other tokens when they come back as a text.
"""

from __future__ import annotations

import queue
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_tiered.mlx.engine.engine import Engine
from llm_tiered.mlx.engine.requests import CancelToken, Done, Failed, GenerationRequest
from llm_tiered.mlx.tokens.decoding import Text
from tests.tiny_models import build

if TYPE_CHECKING:
    from llm_tiered.mlx.engine.requests import Event

FAMILIES = ("qwen3_5", "qwen3_next", "gemma3_text")
RUNS = 5
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "rests"]
ANSWER = "All right, here it is: the fox jumps over the dog and rests."
QUESTION = "And then it rests under the old oak tree?"


def ask(engine: Engine, folder: Path, chat: list[dict[str, str]], **more: Any) -> tuple[float, int]:
    """Answer a chat; the milliseconds to the first text, and the tokens that were read."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    sampling = {"temperature": 0.0}
    request = GenerationRequest("m", folder, 1 << 34, tuple(chat), 40, sampling=sampling, **more)
    began, first = time.perf_counter(), 0.0
    engine.submit(request, events.put, CancelToken())
    while not isinstance(event := events.get(), (Done, Failed)):
        if isinstance(event, Text) and not first:
            first = time.perf_counter() - began
    if isinstance(event, Failed):
        raise event.error
    return 1e3 * first, event.prompt_tokens - event.cached_tokens


def third_turn(engine: Engine, folder: Path, run: int) -> tuple[float, float, int, int]:
    """The milliseconds with what was kept and without, and the tokens that each has read."""
    story = " ".join(random.Random(run).choices(WORDS, k=300))
    chat = [
        {"role": "system", "content": f"You are helpful. {run}"},
        {"role": "user", "content": story},
    ]
    schema = {"const": ANSWER}
    for _ in range(2):
        ask(engine, folder, chat, schema=schema)
        chat += [
            {"role": "assistant", "content": f'"{ANSWER}"'},
            {"role": "user", "content": QUESTION},
        ]
    kept, read = ask(engine, folder, chat)
    # A request with a seed is repeatable: it uses nothing that was kept.
    whole, all_read = ask(engine, folder, chat, seed=0)
    return kept, whole, read, all_read


def main(families: list[str]) -> None:
    """Print the figures of each family."""
    with tempfile.TemporaryDirectory() as temporary:
        for family in families:
            folder = Path(temporary) / family
            build(family, folder, context=8192, layers=8, hidden=512)  # type: ignore[arg-type]  # as typed
            engine = Engine()
            rows = [third_turn(engine, folder, run) for run in range(RUNS + 1)][1:]
            engine.close()
            ratios = sorted(whole / kept for kept, whole, _, _ in rows)
            kept, whole, read, all_read = map(statistics.median, zip(*rows, strict=True))
            sys.stdout.write(
                f"{family}: {statistics.median(ratios):.1f} times faster ({ratios[0]:.1f} to "
                f"{ratios[-1]:.1f}): {kept:.0f} ms, {read:.0f} tokens read, against {whole:.0f} ms,"
                f" {all_read:.0f} tokens\n"
            )


if __name__ == "__main__":
    main(sys.argv[1:] or [*FAMILIES])
