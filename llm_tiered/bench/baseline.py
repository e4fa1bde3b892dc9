"""The baseline: a model as mlx_lm alone runs it, without this package."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from ..mlx import device
from ..mlx.engine.loading import import_mlx_lm
from ..mlx.tokens import messages
from .timing import Stopwatch, TimedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

T = TypeVar("T")


class MlxLmBaseline:
    """A model that mlx_lm runs on a thread of its own, for the length of a `with` statement."""

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        self._folder = folder
        self._adapter = str(adapter) if adapter else None
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlx-lm")
        self._loaded: Any = None

    def __enter__(self) -> MlxLmBaseline:
        try:
            self._run(self._load)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def stop(self) -> None:
        """End the current answer at its next token. Safe to call from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """Stop, and release the model and the thread."""
        self.stop()
        self._pool.submit(self._release)
        self._pool.shutdown()

    def ask(self, prompt: str, *, max_tokens: int, system: str | None = None) -> TimedAnswer:
        """Answer a prompt, formatted with the model's chat template."""
        chat = [{"role": "user", "content": prompt}]
        if system:
            chat.insert(0, {"role": "system", "content": system})
        return self._run(lambda: self._generate(chat, max_tokens)).settle()

    def _run(self, work: Callable[[], T]) -> T:
        return self._pool.submit(work).result()

    def _load(self) -> None:
        import_mlx_lm()
        import mlx_lm

        loaded = mlx_lm.load(str(self._folder), adapter_path=self._adapter, lazy=False)
        self._loaded = loaded[:2]

    def _generate(self, chat: list[dict[str, str]], max_tokens: int) -> TimedAnswer:
        import mlx.core as mx
        from mlx_lm import stream_generate

        model, tokenizer = self._loaded
        stopwatch = Stopwatch()
        prompt = messages.encode(tokenizer, chat, thinking=False)
        ttft = None
        output_tokens = 0
        for response in stream_generate(model, tokenizer, prompt, max_tokens=max_tokens):
            output_tokens = response.generation_tokens
            if ttft is None and response.text:
                ttft = stopwatch.wall
            if self._stopped.is_set():
                break
        return stopwatch.answer(
            ttft,
            prompt_tokens=len(prompt),
            output_tokens=output_tokens,
            peak_memory=mx.get_peak_memory(),
        )

    def _release(self) -> None:
        import mlx.core as mx

        self._loaded = None
        mx.clear_cache()
        device.clear_streams()
