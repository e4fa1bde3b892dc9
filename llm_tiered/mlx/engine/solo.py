"""One request on a model by itself: as long as no other wants the model, or for good."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from ...errors import RequestError
from ..tokens.logprobs import Sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .residency import Loaded
    from .sequence import Running

# A token, its log-probabilities, and for a draft model whether it has guessed it.
Steps: TypeAlias = "Generator[tuple[Any, ...], None, None]"

# Tokens that are read at once, as mlx-lm does it. Others get their turn after each such step.
STEP = 2048

# Fewer into a quantised cache: its attention takes memory for each pair of tokens.
QUANTISED_STEP = 512

# So many numbers of a KV cache share a scale. Phi-3.5's heads of 96 hold no groups of 64.
KV_GROUP = 32


class Solo:
    """A request by itself: each token takes less than in a batch of one. On the worker's thread.

    Other models' requests go on between its tokens. When another request wants the same model,
    this one can go on in a batch with it, unless it has a seed, a quantised KV cache or a draft
    model; the last one of a batch goes on here.
    """

    def __init__(self, running: Running, draft: Loaded | None = None) -> None:
        self.loaded = running.loaded
        self.models = (running.loaded, draft) if draft else (running.loaded,)
        self._running = running
        self._over = False
        self._unread: list[int] = []
        self._to_read = 0
        # One for each model.
        self._caches: list[list[Any]] = []
        self._steps: Steps | None = None

    def __len__(self) -> int:
        return 0 if self._over else 1

    @property
    def is_open(self) -> bool:
        """Whether the request can go on together with others."""
        cancelled = self._running.ticket.cancelled.is_set()
        return not (self._over or self._running.alone or cancelled)

    @property
    def kv_bytes(self) -> int:
        """Bytes that the KV caches take at most."""
        if self._over:
            return 0
        return sum(loaded.kv_bytes(self._running.most_tokens) for loaded in self.models)

    def step(self) -> None:
        """Read the next tokens or generate one, and end the request when it is complete."""
        running = self._running
        if running.ticket.cancelled.is_set():
            self.close()
            return
        try:
            if self._steps is None:
                self._read()
                return
            token, logprobs, *_ = next(self._steps)
            sampled = Sampled([token], [logprobs])
            ended = running.push(token, self._finish_reason(token), sampled)
        except Exception as error:
            self.fail(error)
            ended = "failed"
        if ended:
            self.close()

    def fail(self, error: Exception) -> None:
        """End the request with an error."""
        # What it has read is not to be trusted after this.
        self._caches = []
        self._running.fail(error)

    def close(self) -> None:
        """End the request, keep what it has read, and let go of its state."""
        if not self._over:
            self._running.end()
            self._let_go(lambda cache: self._running.keep(self._running.tokens, cache))

    def hand_over(self) -> Running:
        """The request, for a batch to go on with, and what it has read. Only while open."""
        self._let_go(self._running.hold)
        return self._running

    def _let_go(self, take: Callable[[Any], None]) -> None:
        self._over = True
        # Nobody waits for this, and the thread has others to serve.
        with suppress(Exception):
            if self._steps is not None:
                # This takes a draft model's last guesses back out of the cache.
                self._steps.close()
            if self._caches:
                cache = [layer for layers in self._caches for layer in layers]
                _level(cache)
                take(cache)
        self._caches = []

    def _read(self) -> None:
        """Read the next tokens; once a single one is left, it begins to generate."""
        import mlx.core as mx
        from mlx_lm.generate import generation_stream

        running = self._running
        if not self._caches:
            self._begin()
        count = min(QUANTISED_STEP if running.request.kv_bits else STEP, len(self._unread) - 1)
        if count:
            with mx.stream(generation_stream):
                tokens = mx.array(self._unread[:count])[None]
                for loaded, cache in zip(self.models, self._caches, strict=True):
                    loaded.model(tokens, cache=cache)
                mx.eval([layer.state for cache in self._caches for layer in cache])
            # The next ones are of another size, and so is what they need.
            mx.clear_cache()
            self._unread = self._unread[count:]
            running.prefilled(self._to_read - len(self._unread), self._to_read)
        if len(self._unread) == 1:
            self._steps = self._generate()

    def _begin(self) -> None:
        bits = self._running.request.kv_bits
        if bits is not None:
            _check_heads(self._running)
        # What tells these caches from those of other requests.
        kind = [f"kv{bits}"] if bits else []
        kind += [loaded.version for loaded in self.models[1:]]
        known, self._unread = self._running.start(" ".join(kind))
        self._to_read = len(self._unread)
        self._caches = _split(known, self.models) if known else _new_caches(self.models, bits)

    def _generate(self) -> Steps:
        import mlx.core as mx
        from mlx_lm.generate import generate_step, speculative_generate_step

        running = self._running
        last = mx.array(self._unread)
        settings: dict[str, Any] = {
            "max_tokens": running.tokens_left,
            "sampler": running.sampler,
            "prompt_cache": [layer for cache in self._caches for layer in cache],
        }
        if len(self.models) > 1:
            models = [loaded.model for loaded in self.models]
            guessed: Steps = speculative_generate_step(last, *models, **settings)
            return guessed
        settings["logits_processors"] = _with_all_tokens(running.processors, running.tokens[:-1])
        generated: Steps = generate_step(last, self.loaded.model, **settings)
        return generated

    def _finish_reason(self, token: int) -> str | None:
        if token in self.loaded.tokenizer.eos_token_ids:
            return "stop"
        return "length" if self._running.tokens_left == 1 else None


def _new_caches(models: tuple[Loaded, ...], bits: int | None) -> list[list[Any]]:
    """Empty KV caches, that of the first model quantised from its first token on.

    mlx-lm's own way would read the first tokens with a plain cache: then the answer would depend
    on how much of the prompt was read before.
    """
    from mlx_lm.models.cache import make_prompt_cache

    first, *others = [make_prompt_cache(loaded.model) for loaded in models]
    if bits is not None:
        first = [
            layer.to_quantized(group_size=KV_GROUP, bits=bits)
            if hasattr(layer, "to_quantized")
            else layer
            for layer in first
        ]
    return [first, *others]


def _split(cache: list[Any], models: tuple[Loaded, ...]) -> list[list[Any]]:
    """The layers of a cache, model by model."""
    layers = len(models[0].model.layers)
    return [cache[:layers], cache[layers:]][: len(models)]


def _level(cache: list[Any]) -> None:
    """Cut a cache where its shortest layer ends: a draft model's can be a token behind."""
    held = min(layer.offset for layer in cache)
    for layer in cache:
        if layer.offset > held:
            layer.trim(layer.offset - held)


def _with_all_tokens(
    processors: list[Callable[[Any, Any], Any]], read: list[int]
) -> list[Callable[[Any, Any], Any]]:
    """Processors that see all tokens: mlx-lm shows them only those that it has read itself."""
    import mlx.core as mx

    if not processors:
        return []
    before = mx.array(read)

    def process(seen: Any, logits: Any) -> Any:
        tokens = mx.concatenate([before.astype(seen.dtype), seen])
        for processor in processors:
            logits = processor(tokens, logits)
        return logits

    return [process]


def _check_heads(running: Running) -> None:
    """Raise RequestError where the model's KV cache can't be quantised."""
    args = running.loaded.model.args
    heads = getattr(args, "num_attention_heads", None)
    size = getattr(args, "head_dim", None) or (args.hidden_size // heads if heads else 0)
    if size % KV_GROUP:
        raise RequestError(
            f"{running.request.model} can't have its KV cache quantised: its heads of {size} "
            f"are no multiple of {KV_GROUP}",
            fix="leave kv_bits out",
        )
