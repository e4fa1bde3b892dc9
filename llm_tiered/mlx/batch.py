"""Many requests on one model at once: a newcomer joins the running batch."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .residency import Loaded
    from .running import Running

# How many requests generate at once; the rest wait inside the generator.
BATCH_SIZE = 32


class Batch:
    """The running requests of one model. Only on the worker's thread."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.models = (loaded,)
        self._generator: Any = None
        self._running: dict[int, Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    @property
    def kv_bytes(self) -> int:
        """Bytes that the KV caches take at most."""
        return sum(running.kv_bytes for running in self._running.values())

    def add(self, running: Running) -> None:
        """Let a request join."""
        (uid,) = self._ready().insert(
            [running.unread],
            max_tokens=[running.max_tokens],
            caches=[running.cache] if running.cache else None,
            all_tokens=[running.prompt[: len(running.prompt) - len(running.unread)]],
            samplers=[running.sampler],
            logits_processors=[running.processors or _no_processors()],
        )
        running.cache = None
        self._running[uid] = running

    def step(self) -> None:
        """Read or generate the next tokens of all requests, and end those that are complete."""
        cancelled = [uid for uid, one in self._running.items() if one.ticket.cancelled.is_set()]
        if cancelled:
            self._drop(cancelled)
        if not self._running:
            return
        try:
            read, generated = self._ready().next()
        except Exception as error:
            # The generator's state is not to be trusted after this.
            self.close()
            self.fail(error)
            return
        for response in read:
            if response.uid in self._running and not response.end_of_prompt:
                self._running[response.uid].prefilled(*response.progress)
        for response in generated:
            if response.uid in self._running:
                self._take(response)

    def fail(self, error: Exception) -> None:
        """End all requests with an error."""
        lost, self._running = self._running, {}
        for running in lost.values():
            running.fail(error)

    def close(self) -> None:
        """Let go of the generator and what it holds."""
        generator, self._generator = self._generator, None
        if generator is not None:
            # Nobody waits for it any more, and the thread has others to serve.
            with suppress(Exception):
                generator.close()

    def _ready(self) -> Any:
        from mlx_lm.generate import BatchGenerator

        if self._generator is None:
            stops = [[token] for token in self.loaded.tokenizer.eos_token_ids]
            self._generator = BatchGenerator(
                self.loaded.model, stop_tokens=stops, completion_batch_size=BATCH_SIZE
            )
        return self._generator

    def _take(self, response: Any) -> None:
        running = self._running[response.uid]
        try:
            ended = running.push(response.token, response.logprobs, response.finish_reason)
        except Exception as error:
            running.fail(error)
            ended = "failed"
        if response.finish_reason:
            del self._running[response.uid]
            running.keep(response.all_tokens, response.prompt_cache)
        elif ended:
            self._drop([response.uid])

    def _drop(self, uids: list[int]) -> None:
        """Take requests out before their end, and keep what they have read."""
        caches = self._ready().remove(uids, return_prompt_caches=True)
        for uid in uids:
            running = self._running.pop(uid)
            running.end()
            cache, tokens = caches.get(uid, (None, []))
            if cache:
                running.keep(list(tokens), cache)


@cache
def _no_processors() -> list[Callable[[Any, Any], Any]]:
    """What stands for no processors: mlx-lm 0.31 loses count of the requests that have none."""
    return [_unchanged] if version("mlx-lm").startswith("0.31.") else []


def _unchanged(tokens: Any, logits: Any) -> Any:
    return logits
