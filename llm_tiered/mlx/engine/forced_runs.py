"""What schemas force in a batch: several tokens of a row go through the model in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .pass_costs import PassCosts

# How many times as fast a wide pass must be: what is estimated may be wrong.
GAIN = 1.1


def best_width(lengths: Sequence[int], costs: PassCosts) -> int:
    """Return how many tokens of a row to pass at once, given how many each row has.

    The rows that have fewer are padded, and padding takes as long as tokens do.
    """
    rows = len(lengths)
    best, best_gain = 1, GAIN
    for width in sorted({*lengths} - {1}):
        ratio = costs.ratio(rows * width, rows)
        if ratio is None:
            continue
        gain = sum(min(length, width) for length in lengths) / rows / ratio
        if gain > best_gain:
            best, best_gain = width, gain
    return best


class WideModel:
    """A batch's model for a single step: before the token of a row, others go through it.

    `before` are these tokens, by row.
    """

    def __init__(self, model: Any, before: Mapping[int, Sequence[int]]) -> None:
        self._model = model
        self._before = before

    def __call__(self, inputs: Any, cache: list[Any]) -> Any:
        """Return the logits after the last token of each row."""
        import mlx.core as mx

        rows = inputs.shape[0]
        before = [list(self._before.get(row, ())) for row in range(rows)]
        width = max(map(len, before)) + 1
        padding = [width - 1 - len(each) for each in before]
        tokens = mx.array([[*each, *[0] * (width - len(each))] for each in before], inputs.dtype)
        last = mx.array([[len(each)] for each in before])
        tokens = mx.put_along_axis(tokens, last, inputs, axis=1)
        if any(padding):
            lengths = [width - each for each in padding]
            for layer in cache:
                layer.prepare(lengths=lengths, right_padding=padding)
        logits = self._model(tokens, cache=cache)
        if any(padding):
            for layer in cache:
                layer.finalize()
        return mx.take_along_axis(logits, last[:, :, None], axis=1)


def widen(batch: Any, runs: Mapping[int, Sequence[int]]) -> None:
    """Let mlx-lm's batch pass these tokens in its next step, by row.

    A run begins with the token that the batch has sampled for the row; the step passes on its last
    one. The caller restores `batch.model` after it.
    """
    import mlx.core as mx

    before = {row: list(run[:-1]) for row, run in runs.items()}
    for row, tokens in before.items():
        batch._next_tokens[row] = runs[row][-1]
        batch._token_context[row].update_and_fetch(mx.array(tokens))
        batch._num_tokens[row] += len(tokens)
        batch.tokens[row].extend(tokens)
    batch.model = WideModel(batch.model, before)
