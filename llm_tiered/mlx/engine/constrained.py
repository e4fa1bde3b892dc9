"""Generation under a schema, which feeds what the schema leaves no choice about in one pass."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..tokens.structured import Constraint

# mlx-lm's interval, in steps, for giving memory back.
CLEAR_INTERVAL = 256


def constrained_steps(  # noqa: PLR0913 - what generation needs
    model: Any,
    cache: list[Any],
    tokens: list[int],
    *,
    sampler: Callable[[Any], Any],
    penalties: list[Callable[[Any, Any], Any]],
    constraint: Constraint,
) -> Generator[tuple[list[int], Any], None, None]:
    """Yield the next tokens and the log-probabilities of the vocabulary for them.

    A sampled token comes alone. Tokens that the schema forces, such as the names of properties,
    come together and without log-probabilities: the mask would have left nothing else. `cache`
    holds all of `tokens` but the last. When tokens are yielded, it holds these as well.
    """
    import mlx.core as mx
    from mlx_lm.generate import generation_stream

    seen = mx.array(tokens[:-1], mx.uint32)

    def step(new: Any) -> tuple[Any, Any]:
        """Return the token that follows the new ones, as it will be computed."""
        nonlocal seen
        with mx.stream(generation_stream):
            logits = model(new[None], cache=cache)[:, -1, :]
            seen = mx.concatenate([seen, new])
            for penalty in penalties:
                logits = penalty(seen, logits)
            logits = constraint(seen, logits)
            logprobs = logits - mx.logsumexp(logits, keepdims=True)
            sampled = sampler(logprobs).astype(mx.uint32)
        mx.async_eval(sampled, logprobs)  # type: ignore[no-untyped-call]  # its stub has no types
        return sampled, logprobs

    sampled, logprobs = step(mx.array(tokens[-1:], mx.uint32))
    for number in count(1):
        forced = constraint.take_forced()
        # The next step is queued before a token is passed on, so that the device always has work.
        if forced:
            # One draw for each token: a seed gives the same answer as without forced tokens.
            for _ in forced[1:]:
                sampler(logprobs)
            following = step(mx.array(forced, mx.uint32))
            yield forced, None
        else:
            following = step(sampled)
            yield [int(sampled.item())], logprobs.squeeze(0)
        sampled, logprobs = following
        if number % CLEAR_INTERVAL == 0:
            mx.clear_cache()
