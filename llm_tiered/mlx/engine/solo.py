"""A single sequence, generated without a batch."""

from __future__ import annotations

import copy
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...errors import RequestError
from ..tokens.logprobs import StepLogprobs
from . import layer_caches
from .draft import DraftGuesses
from .guesses import LookupGuesses
from .passes import Passes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .loading import LoadedModel
    from .passes import Guesses, Step
    from .sequence import RunningSequence

# Tokens in one prefill step: mlx-lm's default. Other runners get their turn after each step.
PREFILL_STEP = 2048

# The same with a quantised KV cache, whose attention needs memory for each pair of tokens.
QUANTISED_PREFILL_STEP = 512

# Quantisation group size of KV caches. Phi-3.5's heads, of size 96, can't be split by mlx-lm's
# default of 64.
KV_GROUP_SIZE = 32


class Solo:
    """One sequence on its own: a token takes less time than in a batch of one.

    If another request comes for the same model, the sequence can continue in a batch with it,
    unless it needs a seed, a quantised KV cache or a draft model. The last sequence of a batch
    continues here. Used on the worker's thread only.
    """

    def __init__(self, sequence: RunningSequence, draft: LoadedModel | None = None) -> None:
        self.model = sequence.model
        self.models = (sequence.model, draft) if draft else (sequence.model,)
        self._sequence = sequence
        self._has_ended = False
        self._unread: list[int] = []
        self._prefill_tokens = 0
        # The layers' caches, model by model.
        self._caches: list[list[Any]] = []
        self._passes: Passes | None = None
        self._draft: DraftGuesses | None = None
        self._steps: Generator[Step, None, None] | None = None

    def __len__(self) -> int:
        return 0 if self._has_ended else 1

    @property
    def is_joinable(self) -> bool:
        """Whether the sequence can continue in a batch with others."""
        sequence = self._sequence
        return not (self._has_ended or sequence.needs_solo or sequence.cancelled)

    @property
    def kv_bytes(self) -> int:
        """The largest size that the KV caches can reach, in bytes."""
        if self._has_ended:
            return 0
        return sum(model.kv_bytes(self._sequence.max_length) for model in self.models)

    def step(self) -> None:
        """Process the next tokens or generate one, and end the sequence when it is complete."""
        sequence = self._sequence
        if sequence.cancelled:
            self.close()
            return
        try:
            if self._steps is None:
                self._prefill()
                return
            ended = self._push(next(self._steps))
        except Exception as error:
            self.fail(error)
            ended = "failed"
        if ended:
            self.close()

    def _push(self, step: Step) -> str | None:
        """Pass tokens to the sequence, and return the finish reason once it is complete."""
        self._sequence.count_passes(step.passes, step.guessed, step.kept)
        sampled = len(step.logprobs)
        logprobs = StepLogprobs(step.tokens[:sampled], step.logprobs) if sampled else None
        for row, token in enumerate(step.tokens):
            likely = logprobs if row < sampled else None
            ended = self._sequence.push(token, self._finish_reason(token), likely, row)
            if ended:
                return ended
        return None

    def fail(self, error: Exception) -> None:
        """End the sequence with an error."""
        # The caches can't be trusted after an exception.
        self._caches = []
        self._sequence.fail(error)

    def close(self) -> None:
        """End the sequence, store its KV cache and release its state."""
        if not self._has_ended:
            self._sequence.end()
            self._release(self._sequence.cache.store)
            # If the final cache could not be kept, the checkpoints still are.
            self._sequence.cache.write()

    def hand_over(self) -> RunningSequence:
        """Return the sequence, with its KV cache, for a batch to continue. Only while joinable."""
        self._release(self._sequence.cache.carry)
        return self._sequence

    def _release(self, keep: Callable[[list[int], list[Any]], None]) -> None:
        """Stop generating, and pass the tokens that were processed and their cache to `keep`."""
        self._has_ended = True
        # No request depends on this, and the thread has others to serve.
        with suppress(Exception):
            if self._steps is not None:
                self._steps.close()
            if self._passes is not None:
                self._passes.close()
            if self._draft is not None:
                self._draft.close()
            if self._caches:
                processed = self._processed()
                cache = [layer for layers in self._caches for layer in layers]
                if len(self.models) > 1:
                    _trim_to_shortest(cache)
                # Tokens that came after the end of the answer, in the same pass.
                surplus = self._passes.cached - len(processed) if self._passes else 0
                if layer_caches.trim(cache, surplus):
                    keep(processed, cache)
        self._caches = []

    def _prefill(self) -> None:
        """Process the next tokens; generation begins when a single one is left."""
        import mlx.core as mx
        from mlx_lm.generate import generation_stream

        sequence = self._sequence
        if not self._caches:
            self._prepare()
        most = QUANTISED_PREFILL_STEP if sequence.request.kv_bits else PREFILL_STEP
        known = len(self._processed())
        stops = [length - known for length in sequence.checkpoints if length > known]
        count = min(most, len(self._unread) - 1, *stops)
        if count:
            started = time.perf_counter()
            with mx.stream(generation_stream):
                tokens = mx.array(self._unread[:count])[None]
                for model, cache in zip(self.models, self._caches, strict=True):
                    model.model(tokens, cache=cache)
                mx.eval([layer.state for cache in self._caches for layer in cache])
            self.model.pass_costs.add_prefill(count, time.perf_counter() - started)
            # The next step has another size, and so have the buffers that it needs.
            mx.clear_cache()
            self._unread = self._unread[count:]
            done = self._prefill_tokens - len(self._unread)
            sequence.report_prefill(done, self._prefill_tokens)
            if count in stops:
                sequence.cache.checkpoint(self._processed(), copy.deepcopy(self._caches[0]))
        if len(self._unread) == 1:
            self._steps = self._generate()

    def _processed(self) -> list[int]:
        """Return the tokens that the KV caches hold."""
        tokens = self._sequence.tokens
        if self._passes:
            return tokens[: self._passes.cached]
        return tokens[: len(tokens) - len(self._unread)]

    def _prepare(self) -> None:
        """Get the KV caches, with what is known of the tokens so far."""
        bits = self._sequence.request.kv_bits
        if bits is not None:
            _check_head_size(self._sequence)
        kind = [f"kv{bits}"] if bits else []
        kind += [model.version for model in self.models[1:]]
        cache, self._unread = self._sequence.prepare(" ".join(kind))
        self._prefill_tokens = len(self._unread)
        new = _new_caches(self.models, bits)
        self._caches = _split(cache, len(new[0])) if cache else new

    def _generate(self) -> Generator[Step, None, None]:
        """Return the generator of the answer's tokens."""
        sequence = self._sequence
        tokens = sequence.tokens
        self._passes = Passes(
            self.model.model,
            self._caches[0],
            tokens,
            limit=sequence.tokens_left,
            ends=self.model.tokenizer.eos_token_ids,
            sampler=sequence.sampler,
            penalties=sequence.penalties,
            constraint=sequence.constraint,
            guesses=self._guesses(tokens),
            costs=self.model.pass_costs,
        )
        return self._passes.steps()

    def _guesses(self, tokens: list[int]) -> Guesses | None:
        """Return where guesses of the next tokens come from."""
        sequence, model = self._sequence, self.model
        if len(self.models) > 1:
            self._draft = DraftGuesses(
                self.models[1].model,
                self._caches[1],
                tokens,
                penalties=sequence.penalties,
                constraint=sequence.constraint,
            )
            return self._draft
        wanted = sequence.request.prompt_lookup
        if wanted is False or not model.takes_back:
            return None
        return LookupGuesses(tokens, model.pass_costs, always=wanted is True)

    def _finish_reason(self, token: int) -> str | None:
        if token in self.model.tokenizer.eos_token_ids:
            return "stop"
        return "length" if self._sequence.tokens_left == 1 else None


def _new_caches(models: tuple[LoadedModel, ...], bits: int | None) -> list[list[Any]]:
    """Return empty KV caches, model by model; with `bits`, the first model's are quantised.

    They are quantised from the first token on. mlx-lm itself would start with a plain cache, and
    the answer would then depend on how much of the prompt was known before.
    """
    from mlx_lm.models.cache import KVCache, make_prompt_cache

    first, *others = [make_prompt_cache(model.model) for model in models]
    if bits is not None:
        # mlx-lm can't quantise a sliding window.
        first = [
            layer.to_quantized(group_size=KV_GROUP_SIZE, bits=bits)
            if isinstance(layer, KVCache)
            else layer
            for layer in first
        ]
    return [first, *others]


def _split(cache: list[Any], layers: int) -> list[list[Any]]:
    """Return the layers of a cache, model by model; the first model has this number of them."""
    return [part for part in (cache[:layers], cache[layers:]) if part]


def _trim_to_shortest(cache: list[Any]) -> None:
    """Trim all layers to the length of the shortest: a draft model's can be a token behind."""
    length = min(layer.offset for layer in cache)
    for layer in cache:
        if layer.offset > length:
            layer.trim(layer.offset - length)


def _check_head_size(sequence: RunningSequence) -> None:
    """Raise RequestError if the model's KV cache can't be quantised."""
    args = sequence.model.model.args
    heads = getattr(args, "num_attention_heads", None)
    size = getattr(args, "head_dim", None) or (args.hidden_size // heads if heads else 0)
    if size % KV_GROUP_SIZE:
        raise RequestError(
            f"{sequence.request.model} can't quantise its KV cache: its head size, {size}, is not "
            f"a multiple of {KV_GROUP_SIZE}",
            fix="leave kv_bits out",
        )
