"""One request on a model by itself: with a seed, a quantised KV cache or a draft model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Generator

    from .residency import Loaded
    from .running import Running

# So many numbers of a KV cache share a scale. Phi-3.5's heads of 96 hold no groups of 64.
KV_GROUP = 32


class Solo:
    """A request that a batch can't serve. Only on the worker's thread.

    Other requests go on between its tokens.
    """

    def __init__(self, running: Running, draft: Loaded | None) -> None:
        self.models = (running.loaded, draft) if draft else (running.loaded,)
        self._running: Running | None = running
        self._tokens = self._generate(running, draft)

    def __len__(self) -> int:
        return 0 if self._running is None else 1

    @property
    def kv_bytes(self) -> int:
        """Bytes that the KV cache takes at most."""
        return 0 if self._running is None else self._running.kv_bytes

    def step(self) -> None:
        """Generate the next token, and end the request when it is complete."""
        running = self._running
        if running is None or running.ticket.cancelled.is_set():
            self.close()
            return
        try:
            token = next(self._tokens)
            ended = running.push(token.token, token.logprobs, token.finish_reason)
        except Exception as error:
            running.fail(error)
            ended = "failed"
        if ended:
            self.close()

    def fail(self, error: Exception) -> None:
        """End the request with an error."""
        if self._running is not None:
            self._running.fail(error)

    def close(self) -> None:
        """End the request and let go of its state."""
        if self._running is not None:
            self._tokens.close()
            self._running.end()
            self._running = None

    def _generate(self, running: Running, draft: Loaded | None) -> Generator[Any, None, None]:
        from mlx_lm import stream_generate

        request = running.request
        more: dict[str, Any] = {"prompt_progress_callback": running.prefilled}
        if draft is not None:
            more["draft_model"] = draft.model
        if request.kv_bits is not None:
            _check_heads(running)
            more["kv_bits"] = request.kv_bits
            more["kv_group_size"] = KV_GROUP
            more["quantized_kv_start"] = 0
        generated: Generator[Any, None, None] = stream_generate(
            running.loaded.model,
            running.loaded.tokenizer,
            running.prompt,
            max_tokens=running.max_tokens,
            sampler=running.sampler,
            logits_processors=running.processors,
            **more,
        )
        return generated


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
