"""A model as mlx_lm runs it, without this package: what everything else is held against."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from ..mlx import device
from ..mlx.engine.residency import import_mlx_lm
from ..mlx.tokens import messages
from .ask import Answer, Clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

T = TypeVar("T")


class Raw:
    """A model on a thread of its own, from the `with` statement on to its end."""

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        self._folder = folder
        self._adapter = str(adapter) if adapter else None
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlx-lm")
        self._loaded: Any = None

    def __enter__(self) -> Raw:
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
        """End what is under way at its next token. Safe from any thread."""
        self._ended.set()

    def close(self) -> None:
        """Stop, and let go of everything."""
        self.stop()
        self._pool.submit(self._put_down)
        self._pool.shutdown()

    def ask(self, prompt: str, *, max_tokens: int, system: str | None = None) -> Answer:
        """Answer a prompt, written as the model's chat template has it."""
        chat = [{"role": "user", "content": prompt}]
        if system:
            chat.insert(0, {"role": "system", "content": system})
        return self._run(lambda: self._generate(chat, max_tokens)).rest()

    def _run(self, work: Callable[[], T]) -> T:
        return self._pool.submit(work).result()

    def _load(self) -> None:
        import_mlx_lm()
        import mlx_lm

        loaded = mlx_lm.load(str(self._folder), adapter_path=self._adapter, lazy=False)
        self._loaded = loaded[:2]

    def _generate(self, chat: list[dict[str, str]], max_tokens: int) -> Answer:
        import mlx.core as mx
        from mlx_lm import stream_generate

        model, tokenizer = self._loaded
        clock = Clock()
        prompt = messages.encode(tokenizer, chat)
        first = None
        tokens = 0
        for response in stream_generate(model, tokenizer, prompt, max_tokens=max_tokens):
            tokens = response.generation_tokens
            if first is None and response.text:
                first = clock.wall
            if self._ended.is_set():
                break
        return clock.answer(
            first,
            prompt_tokens=len(prompt),
            tokens=tokens,
            peak_memory=mx.get_peak_memory(),
        )

    def _put_down(self) -> None:
        import mlx.core as mx

        self._loaded = None
        mx.clear_cache()
        device.clear_streams()
