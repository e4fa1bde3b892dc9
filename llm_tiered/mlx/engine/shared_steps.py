"""A batch's steps without an operation for each request."""

from __future__ import annotations

import weakref
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ..tokens.logprobs import SampledRow, SampledStep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The versions of mlx-lm whose steps are like those here.
_LIKE_THESE = ("0.31.", "0.32.")

# Requests from which on it pays: with fewer, MLX's queue has room for an operation for each.
FEWEST = 32


def share_steps(batch: Any) -> None:
    """Let the requests of one of mlx-lm's batches share its steps, if its version is known."""
    if version("mlx-lm").startswith(_LIKE_THESE):
        SharedSteps(batch)


class SharedSteps:
    """Takes the steps of one of mlx-lm's batches, as long as many requests are sampled alike.

    mlx-lm takes the log-probabilities apart at the end of each step, with an operation for each
    request. On a CPU, MLX has about a hundred operations in its queue, and whoever adds more waits:
    by the time that these are in it, the model's are done, and nothing is computed while the
    tokens are passed on (findings/mlx-lm-batched-steps.sh). Here, one operation serves all of them.
    """

    def __init__(self, batch: Any) -> None:
        # A cycle would keep the KV caches until Python's garbage collector comes.
        self.batch: Any = weakref.proxy(batch)
        batch._step = self.step

    def step(self) -> tuple[list[int], list[Any]]:
        """Queue the next step, and return the tokens and log-probabilities of the one before."""
        import mlx.core as mx

        batch = self.batch
        if not self._are_many_alike():
            batch._next_logprobs = [_plain(row) for row in batch._next_logprobs]
            queued: tuple[list[int], list[Any]] = batch.__class__._step(batch)
            return queued
        sampled = batch._next_tokens
        rows = _shared(batch._next_logprobs, sampled)
        logits = batch.model(sampled[:, None], cache=batch.prompt_cache)[:, -1, :]
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        following = SampledStep(batch.samplers[0](logprobs), logprobs)
        batch._current_tokens, batch._current_logprobs = sampled, rows
        batch._next_tokens, batch._next_logprobs = following.tokens, following.rows()
        tokens: list[int] = sampled.tolist()
        for known, token in zip(batch.tokens, tokens, strict=True):
            known.append(token)
        return tokens, rows

    def _are_many_alike(self) -> bool:
        """Whether enough requests share a sampler, and none has a processor for its logits."""
        samplers, processors = self.batch.samplers, self.batch.logits_processors
        if len(samplers) < FEWEST or any(sampler is not samplers[0] for sampler in samplers):
            return False
        return not any(each is not _unchanged for own in processors for each in own or ())


def _plain(row: Any) -> Any:
    """Return a row of log-probabilities as mlx-lm has it."""
    return row.array() if isinstance(row, SampledRow) else row


def _shared(rows: Sequence[Any], tokens: Any) -> list[Any]:
    """Return the rows with their tokens' log-probabilities: those that have just joined have none.

    They are sampled already.
    """
    import mlx.core as mx

    new = [index for index, row in enumerate(rows) if not isinstance(row, SampledRow)]
    if not new:
        return list(rows)
    joined = SampledStep(tokens[mx.array(new)], mx.stack([rows[index] for index in new]))
    added = iter(joined.rows())
    return [row if isinstance(row, SampledRow) else next(added) for row in rows]


@cache
def no_processors() -> list[Callable[[Any, Any], Any]]:
    """Return a substitute for an empty list of logits processors.

    mlx-lm 0.31 loses track of requests that have none.
    """
    return [_unchanged] if version("mlx-lm").startswith("0.31.") else []


def _unchanged(tokens: Any, logits: Any) -> Any:
    return logits
