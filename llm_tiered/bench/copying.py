"""Tasks whose answers stand in the prompt for the most part, and how many passes they take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .figures import Figure, interleave
from .timing import TimedAnswer, submit

if TYPE_CHECKING:
    from .parts import Bench

NOTICE = """\
The Harbour Library opens at nine on weekdays and at ten on Saturdays. Members may borrow twelve \
books for four weeks. Late returns cost twenty cents a day. The reading room on the second floor \
has forty seats, and the archive in the cellar may be visited by appointment."""

MINUTES = """\
Anna Berg: The new bridge will cost four million euros.
Tom Reed: The council has only three million euros for it.
Anna Berg: Then we build the footpath first, and the road next year.
Lena Novak: The school needs the footpath before the first of September.
Tom Reed: I will ask the builders whether they can finish it in August."""

ORDER = """\
Order 20417
Customer: Maria Lindqvist, 14 Station Road, Uppsala
Item: walnut music stand, quantity 2, price 89.50
Item: metronome with a pendulum, quantity 1, price 42.00
Item: violin strings, set of four, quantity 3, price 27.90
Delivery: Thursday, 12 March"""

CODE = """\
def average(numbers):
    total = 0
    for number in numbers:
        total = total + number
    return total / len(numbers)

def largest(numbers):
    best = numbers[0]
    for number in numbers:
        if number > best:
            best = number
    return best"""

RECIPE = """\
1. Peel the potatoes and cut them into thin slices.
2. Put the slices into a buttered dish, and add salt and pepper.
3. Pour half a litre of cream over the potatoes.
4. Bake them in a hot oven for fifty minutes."""

LETTER = """\
Dear Mr Hansen, thank you for your letter of the third of May. We are happy to tell you that your \
application was accepted. Your first day is the first of July. Please bring your passport and a \
photograph to the office on the ground floor. Yours sincerely, Ruth Okafor"""

# The kind of task, what it is about, and what to do with it.
TASKS = (
    ("quotation", NOTICE, "Repeat this text word for word:"),
    ("quotation", MINUTES, "Write down exactly what was said here, line by line:"),
    ("quotation", RECIPE, "Repeat this recipe exactly:"),
    ("quotation", LETTER, "Copy this letter without any changes:"),
    ("extraction", ORDER, "Copy the lines of this order that begin with Item:"),
    ("extraction", MINUTES, "Copy the lines in which Anna Berg speaks:"),
    ("extraction", CODE, "Copy the function largest from this code:"),
    ("extraction", RECIPE, "Copy the first and the second step of this recipe:"),
    ("edit", CODE, "Write this code again, with the name values instead of numbers:"),
    ("edit", LETTER, "Write this letter again, but to Mrs Jensen:"),
    ("edit", ORDER, "Write this order again, but for delivery on Friday, 13 March:"),
    ("edit", RECIPE, "Write this recipe again, with carrots instead of potatoes:"),
)


def copying(bench: Bench) -> list[Figure]:
    """Measure passes per token with guesses from the prompt, and decode as they are by default."""

    def answer(number: int, *, prompt_lookup: bool | None) -> TimedAnswer:
        _, text, task = TASKS[number % len(TASKS)]
        return submit(
            bench.model,
            f"{task}\n\n{text}",
            system=bench.prompts.new_system(),
            max_tokens=bench.plan.tokens,
            prompt_lookup=prompt_lookup,
        )

    rounds = range(len(TASKS))
    part = bench.part("copying")
    guessed = [answer(number, prompt_lookup=True) for number in rounds]
    ratios = [(one.passes / one.output_tokens) for one in guessed]
    passes = sum(one.passes for one in guessed) / sum(one.output_tokens for one in guessed)
    note = f"{len(TASKS)} tasks, {min(ratios):.2f} to {max(ratios):.2f}"
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
