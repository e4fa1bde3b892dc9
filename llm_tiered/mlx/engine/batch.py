"""Many requests on one model at once: a newcomer joins the running batch."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ..tokens.logprobs import Sampled
from .residency import brief

if TYPE_CHECKING:
    from collections.abc import Callable

    from .residency import Loaded
    from .sequence import Running

# How many requests generate at once; the rest wait inside the generator.
BATCH_SIZE = 32

logger = logging.getLogger("llm_tiered")


class Batch:
    """The running requests of one model, as long as there are several. On the worker's thread.

    MLX fails for all of them at once. Then each goes on by itself, one after the other, from
    where it was; one that fails by itself has failed.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.models = (loaded,)
        self._generator: Any = None
        self._running: dict[int, Running] = {}
        self._apart: deque[Running] = deque()
        self._has_failed = False

    def __len__(self) -> int:
        return len(self._running) + len(self._apart)

    @property
    def is_open(self) -> bool:
        """Whether others may join."""
        return not self._has_failed

    @property
    def is_down_to_one(self) -> bool:
        """Whether a single request is left, which does better by itself."""
        return self.is_open and len(self._running) == 1

    @property
    def kv_bytes(self) -> int:
        """Bytes that the KV caches take at most."""
        return sum(self.loaded.kv_bytes(running.most_tokens) for running in self._all())

    def add(self, running: Running) -> None:
        """Let a request join. Raises TieredError where it can't be served."""
        known, unread = running.start()
        tokens = running.tokens
        (uid,) = self._ready().insert(
            [unread],
            max_tokens=[running.tokens_left],
            caches=[known] if known else None,
            all_tokens=[tokens[: len(tokens) - len(unread)]],
            samplers=[running.sampler],
            logits_processors=[running.processors or _no_processors()],
        )
        self._running[uid] = running

    def go_on(self, running: Running) -> None:
        """Let a request join that has begun elsewhere."""
        try:
            self.add(running)
        except Exception as error:
            running.fail(error)

    def step(self) -> None:
        """Read or generate the next tokens of all requests, and end those that are complete."""
        together = 0
        try:
            self._drop_cancelled()
            if self._apart and not self._running:
                self.go_on(self._apart.popleft())
            together = len(self._running)
            if together:
                self._advance()
        except Exception as error:
            self._take_apart(error, together)

    def hand_over(self) -> Running:
        """The request that is left, to go on by itself, and what it has read."""
        ((uid, running),) = self._running.items()
        self._running.clear()
        # What can't be taken along is read again.
        with suppress(Exception):
            cache, _ = self._ready().extract_cache([uid])[uid]
            running.hold(cache)
        self.close()
        return running

    def fail(self, error: Exception) -> None:
        """End all requests with an error."""
        for running in self._all():
            running.fail(error)
        self._running.clear()
        self._apart.clear()

    def close(self) -> None:
        """Let go of the generator and what it holds."""
        generator, self._generator = self._generator, None
        if generator is not None:
            # Nobody waits for it any more, and the thread has others to serve.
            with suppress(Exception):
                generator.close()

    def _all(self) -> list[Running]:
        return [*self._running.values(), *self._apart]

    def _ready(self) -> Any:
        from mlx_lm.generate import BatchGenerator

        if self._generator is None:
            stops = [[token] for token in self.loaded.tokenizer.eos_token_ids]
            self._generator = BatchGenerator(
                self.loaded.model, stop_tokens=stops, completion_batch_size=BATCH_SIZE
            )
        return self._generator

    def _advance(self) -> None:
        read, generated = self._ready().next()
        for response in read:
            if response.uid in self._running and not response.end_of_prompt:
                self._running[response.uid].prefilled(*response.progress)
        if generated:
            sampled = Sampled([one.token for one in generated], [one.logprobs for one in generated])
            for row, response in enumerate(generated):
                if response.uid in self._running:
                    self._take(response, sampled, row)

    def _take(self, response: Any, sampled: Sampled, row: int) -> None:
        running = self._running[response.uid]
        try:
            ended = running.push(response.token, response.finish_reason, sampled, row)
        except Exception as error:
            running.fail(error)
            ended = "failed"
        if response.finish_reason:
            del self._running[response.uid]
            running.keep(response.all_tokens, response.prompt_cache)
        elif ended:
            self._drop([response.uid])

    def _drop_cancelled(self) -> None:
        for running in [one for one in self._apart if one.ticket.cancelled.is_set()]:
            self._apart.remove(running)
            running.end()
        cancelled = [uid for uid, one in self._running.items() if one.ticket.cancelled.is_set()]
        if cancelled:
            self._drop(cancelled)

    def _drop(self, uids: list[int]) -> None:
        """Take requests out before their end, and keep what they have read."""
        dropped = {uid: self._running.pop(uid) for uid in uids}
        for running in dropped.values():
            running.end()
        caches = self._ready().remove(uids, return_prompt_caches=True)
        for uid, running in dropped.items():
            known, tokens = caches.get(uid, (None, []))
            if known:
                running.keep(list(tokens), known)

    def _take_apart(self, error: Exception, together: int) -> None:
        """Let the requests go on one by one, if there were several of them."""
        # The generator's state is not to be trusted after this.
        self.close()
        failed = list(self._running.values())
        self._running.clear()
        if together > 1:
            logger.warning(
                "%s: a batch of %s requests failed and goes on one by one (%s: %s)",
                self.loaded.name,
                together,
                type(error).__name__,
                brief(error),
            )
            self._apart.extend(failed)
        else:
            for running in failed:
                running.fail(error)
        self._has_failed = True


@cache
def _no_processors() -> list[Callable[[Any, Any], Any]]:
    """What stands for no processors: mlx-lm 0.31 loses count of the requests that have none."""
    return [_unchanged] if version("mlx-lm").startswith("0.31.") else []


def _unchanged(tokens: Any, logits: Any) -> Any:
    return logits
