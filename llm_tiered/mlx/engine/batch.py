"""Continuous batching: several sequences on one model, joining and leaving at any time."""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..tokens.logprobs import StepLogprobs
from .forced_runs import best_width, widen
from .loading import brief
from .shared_steps import no_processors, share_steps

if TYPE_CHECKING:
    from .loading import LoadedModel
    from .sequence import RunningSequence

# Sequences that generate at the same time. The others wait inside mlx-lm's generator, whose default
# is half of that: a step takes little longer with more of them, and none begins if memory is short.
BATCH_SIZE = 64

# Prompts that are read at the same time, and tokens of each in one step. mlx-lm's defaults, half as
# many prompts and twice as many tokens, need as much memory, but more steps for short prompts, and
# running answers wait longer for each.
PREFILL_BATCH_SIZE, PREFILL_STEP = 16, 1024

# Tokens, with padding, up to which more prompts than that are read at the same time. It is half of
# such a step.
SHORT_PROMPTS = 8192

# Passes with padding until it is dropped from the KV caches.
COMPACT_INTERVAL = 64

logger = logging.getLogger("llm_tiered")


class Batch:
    """The sequences that run on one model, if there are several. Used on the worker's thread only.

    If MLX fails, it fails for the whole batch. The sequences are then continued one at a time,
    each from where it was; one that fails while it runs alone has failed.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.models = (model,)
        self._generator: Any = None
        self._running: dict[int, RunningSequence] = {}
        # After a failure: the sequences that wait to be continued alone.
        self._set_aside: deque[RunningSequence] = deque()
        self._has_failed = False
        # The tokens in the pass that has been queued, and when the one before it was read.
        self._queued = 0
        self._read_at = 0.0
        self._wide_steps = 0

    def __len__(self) -> int:
        return len(self._running) + len(self._set_aside)

    @property
    def is_joinable(self) -> bool:
        """Whether other sequences may join."""
        return not self._has_failed

    @property
    def has_one_left(self) -> bool:
        """Whether a single sequence is left, and can continue faster outside of a batch.

        A KV cache that can't be trimmed would have to be computed again for that.
        """
        return self.is_joinable and self.model.trims_caches and len(self._running) == 1

    @property
    def kv_bytes(self) -> int:
        """The largest size that the KV caches can reach, in bytes."""
        return sum(self.model.kv_bytes(sequence.max_length) for sequence in self._all())

    def add(self, sequence: RunningSequence) -> None:
        """Let a sequence join. Raises TieredError if it can't be served."""
        cache, unread = sequence.prepare()
        tokens = sequence.tokens
        known = len(tokens) - len(unread)
        (uid,) = self._batch_generator().insert_segments(
            [_split(unread, [length - known for length in sequence.checkpoints])],
            max_tokens=[sequence.tokens_left],
            caches=[cache] if cache else None,
            all_tokens=[tokens[:known]],
            samplers=[sequence.sampler],
            logits_processors=[sequence.processors or no_processors()],
        )
        self._running[uid] = sequence

    def resume(self, sequence: RunningSequence) -> None:
        """Let a sequence join that another runner has begun; it fails if it can't be served."""
        try:
            self.add(sequence)
        except Exception as error:
            sequence.fail(error)

    def step(self) -> None:
        """Process or generate the next tokens of all sequences, and end those that are complete."""
        running = 0
        try:
            self._remove_cancelled()
            if self._set_aside and not self._running:
                self.resume(self._set_aside.popleft())
            running = len(self._running)
            if running:
                self._generate()
        except Exception as error:
            self._recover(error, running)

    def hand_over(self) -> RunningSequence:
        """Return the only sequence left, with its KV cache, and close the batch."""
        ((uid, sequence),) = self._running.items()
        self._running.clear()
        # Without the cache, its tokens are processed again.
        with suppress(Exception):
            kv_cache, tokens = self._batch_generator().extract_cache([uid])[uid]
            sequence.cache.carry(tokens, kv_cache)
        self.close()
        return sequence

    def fail(self, error: Exception) -> None:
        """End all sequences with an error."""
        for sequence in self._all():
            sequence.fail(error)
        self._running.clear()
        self._set_aside.clear()

    def close(self) -> None:
        """Release mlx-lm's generator and what it holds."""
        generator, self._generator = self._generator, None
        if generator is not None:
            # No request depends on it any more, and the thread has others to serve.
            with suppress(Exception):
                generator.close()

    def _all(self) -> list[RunningSequence]:
        return [*self._running.values(), *self._set_aside]

    def _batch_generator(self) -> Any:
        from mlx_lm.generate import BatchGenerator

        if self._generator is None:
            stops = [[token] for token in self.model.tokenizer.eos_token_ids]
            self._generator = BatchGenerator(
                self.model.model,
                stop_tokens=stops,
                completion_batch_size=BATCH_SIZE,
                prefill_batch_size=PREFILL_BATCH_SIZE,
                prefill_step_size=PREFILL_STEP,
            )
            share_steps(self._generator._generation_batch)
        return self._generator

    def _generate(self) -> None:
        runs = self._forced_runs()
        prompts, answers = self._next(runs)
        for response in prompts:
            if response.uid in self._running and not response.end_of_prompt:
                self._running[response.uid].report_prefill(*response.progress)
                if response.end_of_segment:
                    self._keep_checkpoint(response.uid)
        if answers:
            tokens, rows = [one.token for one in answers], [one.logprobs for one in answers]
            step = StepLogprobs(tokens, rows, computed=True)
            ended = []
            for row, response in enumerate(answers):
                if response.uid in self._running:
                    run = runs.get(response.uid)
                    passed_on = run or [response.token]
                    if self._push(response, None if run else step, row, passed_on):
                        ended.append(response)
            # All tokens have been passed on: nobody waits for this.
            self._let_go(ended)

    def _keep_checkpoint(self, uid: int) -> None:
        """Keep the KV cache of a sequence whose prompt was processed up to a checkpoint."""
        sequence = self._running[uid]
        if not sequence.checkpoints:
            return
        # No answer depends on it.
        with suppress(Exception):
            kv_cache, tokens = self._batch_generator().extract_cache([uid])[uid]
            if len(tokens) in sequence.checkpoints:
                sequence.cache.checkpoint(list(tokens), kv_cache)

    def _forced_runs(self) -> dict[int, list[int]]:
        """Return the tokens that schemas force next, for sequences that pass several at once."""
        batch = self._batch_generator()._generation_batch
        runs: dict[int, list[int]] = {}
        for uid, most, count in zip(batch.uids, batch.max_tokens, batch._num_tokens, strict=True):
            sequence = self._running.get(uid)
            if sequence and sequence.constraint and sequence.constraint.leaves_no_choice:
                runs[uid] = sequence.constraint.forced()[: most - count]
        lengths = [len(runs.get(uid, ())) or 1 for uid in batch.uids]
        width = best_width(lengths, self.model.pass_costs) if runs else 1
        return {uid: run[:width] for uid, run in runs.items() if len(run) > 1 and width > 1}

    def _next(self, runs: dict[int, list[int]]) -> tuple[list[Any], list[Any]]:
        """Return what mlx-lm's generator has processed and generated, runs in a single step."""
        generator = self._batch_generator()
        generator.prefill_batch_size = _prefill_batch_size(generator)
        batch = generator._generation_batch
        model, rows = batch.model, len(batch)
        for uid, run in runs.items():
            constraint = self._running[uid].constraint
            if constraint:
                constraint.accept(run[:-1])
        try:
            if runs:
                widen(batch, {batch.uids.index(uid): run for uid, run in runs.items()})
            prompts, answers = generator.next()
        finally:
            batch.model = model
        self._wide_steps += bool(runs)
        if runs and self._wide_steps % COMPACT_INTERVAL == 0:
            # This drops the padding that all rows have in common.
            batch.filter(list(range(len(batch))))
        now = time.perf_counter()
        if not prompts and self._queued:
            self.model.pass_costs.add(self._queued, now - self._read_at)
        self._queued = 0 if prompts else rows * max(map(len, runs.values()), default=1)
        self._read_at = now
        return prompts, answers

    def _push(self, response: Any, step: StepLogprobs | None, row: int, tokens: list[int]) -> bool:
        """Pass tokens to their sequence, and return whether it has ended."""
        sequence = self._running[response.uid]
        sequence.count_passes(1)
        ended: str | None = None
        try:
            for token in tokens[:-1]:
                ended = ended or sequence.push(token, None, None)
            ended = ended or sequence.push(tokens[-1], response.finish_reason, step, row)
        except Exception as error:
            sequence.fail(error)
            ended = "failed"
        return bool(ended or response.finish_reason)

    def _let_go(self, ended: list[Any]) -> None:
        """Remove sequences that have ended with these responses, and store their KV caches."""
        for response in ended:
            if response.finish_reason:
                sequence = self._running.pop(response.uid)
                sequence.cache.store(response.all_tokens, response.prompt_cache)
        if left := [each.uid for each in ended if not each.finish_reason]:
            self._remove(left)

    def _remove_cancelled(self) -> None:
        for sequence in [each for each in self._set_aside if each.cancelled]:
            self._set_aside.remove(sequence)
            sequence.end()
        cancelled = [uid for uid, sequence in self._running.items() if sequence.cancelled]
        if cancelled:
            self._remove(cancelled)

    def _remove(self, uids: list[int]) -> None:
        """Remove sequences that the generator would continue, and store their KV caches."""
        removed = {uid: self._running.pop(uid) for uid in uids}
        for sequence in removed.values():
            sequence.end()
        caches = self._batch_generator().remove(uids, return_prompt_caches=True)
        for uid, sequence in removed.items():
            kv_cache, tokens = caches.get(uid, (None, []))
            if kv_cache:
                sequence.cache.store(list(tokens), kv_cache)

    def _recover(self, error: Exception, running: int) -> None:
        """After a failure, set the sequences aside to be continued one at a time.

        If only one was running, it has failed.
        """
        # The generator's state can't be trusted after an exception.
        self.close()
        sequences = list(self._running.values())
        self._running.clear()
        if running > 1:
            logger.warning(
                "%s: a batch of %s requests failed, continuing one at a time (%s: %s)",
                self.model.name,
                running,
                type(error).__name__,
                brief(error),
            )
            self._set_aside.extend(sequences)
        else:
            for sequence in sequences:
                sequence.fail(error)
        self._has_failed = True


def _split(tokens: list[int], positions: list[int]) -> list[list[int]]:
    """Return the tokens in segments that end at these positions, as far as they lie inside."""
    cuts = [0, *(position for position in positions if 0 < position < len(tokens)), len(tokens)]
    return [tokens[start:end] for start, end in pairwise(cuts)]


def _prefill_batch_size(generator: Any) -> int:
    """Return how many prompts mlx-lm's generator may read at the same time."""
    if len(generator._prompt_batch):
        # Those that are being read may be long.
        return PREFILL_BATCH_SIZE
    tokens = longest = 0
    for number, (_, segments, *_) in enumerate(generator._unprocessed_sequences):
        length = sum(map(len, segments))
        tokens, longest = tokens + length, max(longest, length)
        with_padding = (number + 1) * longest
        # What is mostly padding is read sooner apart.
        if number >= PREFILL_BATCH_SIZE and with_padding > min(SHORT_PROMPTS, 2 * tokens):
            return number
    return BATCH_SIZE
