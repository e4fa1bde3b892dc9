"""Tasks whose answers stand in the prompt for the most part, and how many passes they take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .figures import Figure, interleave
from .timing import TimedAnswer, submit

if TYPE_CHECKING:
    from .parts import Bench

MINUTES = """\
Anna Berg: The new bridge will cost four million euros.
Tom Reed: The council has only three million euros for it.
Anna Berg: Then we build the footpath first, and the road next year.
Lena Novak: The school needs the footpath before the first of September."""

ORDER = """\
Item: walnut music stand, quantity 2, price 89.50
Item: metronome with a pendulum, quantity 1, price 42.00
Item: violin strings, set of four, quantity 3, price 27.90
Delivery: Thursday, 12 March"""

RECIPE = """\
1. Peel the potatoes and cut them into thin slices.
2. Put the slices into a buttered dish, and add salt and pepper.
3. Pour half a litre of cream over the potatoes.
4. Bake them in a hot oven for fifty minutes."""

LETTER = """\
Dear Mr Hansen, thank you for your letter of the third of May. We are happy to tell you that your \
application was accepted. Your first day is the first of July. Please bring your passport."""

# The kind of task, what it is about, and what to do with it.
TASKS = (
    ("quotation", MINUTES, "Copy all lines."),
    ("quotation", ORDER, "Copy all lines."),
    ("quotation", RECIPE, "Copy all steps."),
    ("quotation", LETTER, "Copy this letter."),
    ("extraction", MINUTES, "Copy the lines in which Anna Berg speaks."),
    ("extraction", ORDER, "Copy the lines that begin with Item."),
    ("extraction", RECIPE, "Copy the first and the second step."),
    ("extraction", LETTER, "Copy the sentence about the passport."),
    ("edit", MINUTES, "Copy all lines, with John Berg instead of Anna Berg."),
    ("edit", ORDER, "Copy all lines, with Friday instead of Thursday."),
    ("edit", RECIPE, "Copy all steps, with carrots instead of potatoes."),
    ("edit", LETTER, "Copy this letter, with Mrs Jensen instead of Mr Hansen."),
)


def copying(bench: Bench) -> list[Figure]:
    """Measure passes per token with guesses from the prompt, and decode as they are by default."""

    def answer(number: int, *, prompt_lookup: bool | None) -> TimedAnswer:
        _, text, task = TASKS[number]
        # Each text is read once, and then cached.
        return submit(
            bench.model,
            f"{text}\n\n{task}",
            max_tokens=bench.plan.short_answer,
            prompt_lookup=prompt_lookup,
        )

    rounds = range(len(TASKS))
    part = bench.part("copying")
    guessed = [answer(number, prompt_lookup=True) for number in rounds]
    ratios = [(one.passes / one.output_tokens) for one in guessed]
    passes = sum(one.passes for one in guessed) / sum(one.output_tokens for one in guessed)
    longest = max(one.output_tokens for one in guessed)
    note = f"{len(TASKS)} tasks, {min(ratios):.2f} to {max(ratios):.2f}, up to {longest} tokens"
    pairs = [
        (one.decode_rate, other.decode_rate)
        for one, other in interleave(
            len(TASKS),
            lambda number: answer(number, prompt_lookup=None),
            lambda number: answer(number, prompt_lookup=False),
        )
    ]
    return [
        Figure("copying", "copying_passes", "passes/token", passes, part.model, note),
        part.paired("copying", "tokens/s", pairs, "no guesses"),
    ]
