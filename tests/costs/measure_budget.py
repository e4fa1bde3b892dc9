"""Measure the budget: `python -m tests.costs.measure_budget`.

How long a check takes with a log of `--turns` turns, how long it takes to count a request (one is
held, then settled), and by how much processes in tool loops exceed a budget.
"""

from __future__ import annotations

import os
import tempfile
import time
from datetime import datetime, timezone
from decimal import Decimal
from multiprocessing import get_context
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import click
import llm
from llm.plugins import pm

from llm_tiered.config.sections import Budget
from llm_tiered.costs.ledger import Ledger
from llm_tiered.costs.spending import period_starts, read_spent
from llm_tiered.paths import config_path, ledger_path, log_path
from llm_tiered.router.billing import Billing
from tests.make_log import make_log
from tests.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

MODEL = "gemini/gemini-2.5-flash"

# A tenth of a dollar, at the price of MODEL.
TOKENS = 40_000
CONFIG = f"""
tiers: [{{name: cloud, complexity: 1-10, model: {MODEL}}}]
budget: {{day: %s}}
fallback: none
log_api: false
"""


def answer(_: llm.Prompt, response: Any) -> Generator[Any, None, None]:
    """Call the tool again and again."""
    yield "once more"
    response.add_tool_call(llm.ToolCall(name="look", arguments={}))
    response.set_usage(input=0, output=TOKENS)


class Plugin:
    """Registers the stand-in for the cloud model."""

    @llm.hookimpl
    def register_models(self, register: Callable[..., None]) -> None:
        """Register it."""
        register(StandIn(MODEL, answer, supports_tools=True))


def look() -> str:
    """Look."""
    return "nothing"


def loop(start: Any) -> None:
    """Call tools until the budget says no."""
    model = llm.get_model("tiered")
    start.wait()
    conversation = model.conversation(tools=[look], chain_limit=0)
    try:
        conversation.chain("Go", options={"max_tokens": TOKENS}).text()
    except llm.ModelError as error:
        if "over budget" not in str(error):
            raise


def timed(times: int, call: Callable[[], object]) -> str:
    """Return the median and the 95th percentile in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append((time.perf_counter() - started) * 1000)
    return f"{median(taken):.2f} ms, 95% within {quantiles(taken, n=20)[-1]:.2f} ms"


def count_one() -> None:
    """Hold and settle a request."""
    model = llm.get_model(MODEL)
    response = model.prompt("Hello")
    billing = Billing(response.id, Budget(day=Decimal(1000)))
    started = time.perf_counter()
    billing.hold(model, response)
    response.set_usage(input=10, output=10)
    billing.answered(response)
    COUNTING.append((time.perf_counter() - started) * 1000)


COUNTING: list[float] = []


@click.command()
@click.option("--turns", default=100_000, show_default=True, help="Turns in the log")
@click.option("--processes", default=8, show_default=True, help="Processes in tool loops")
@click.option("--budget", default=5, show_default=True, help="Their budget, in dollars")
def main(turns: int, processes: int, budget: int) -> None:
    """Print what was measured."""
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"LLM_USER_PATH": home, "LLM_GEMINI_KEY": "none is needed"}
        pm.register(Plugin())
        make_log(log_path(), turns, end=datetime.now(timezone.utc))
        day, month = period_starts()

        def check() -> object:
            return read_spent(log_path(), day=day, month=month)

        started = time.perf_counter()
        check()
        click.echo(
            f"the first check ever, with {turns:,} turns: {time.perf_counter() - started:.3f} s"
        )
        click.echo(f"a check: {timed(200, check)}")
        for _ in range(200):
            count_one()
        click.echo(f"counting a request: {median(COUNTING):.2f} ms, ", nl=False)
        click.echo(f"95% within {quantiles(COUNTING, n=20)[-1]:.2f} ms")

        log_path().unlink()
        ledger_path().unlink()
        config_path().write_text(CONFIG % budget)
        forking = get_context("fork")
        start = forking.Barrier(processes)
        loops = [forking.Process(target=loop, args=[start]) for _ in range(processes)]
        for process in loops:
            process.start()
        for process in loops:
            process.join()
        with Ledger(ledger_path()) as ledger:
            spent = ledger.spent(day, month).day
        codes = {process.exitcode for process in loops}
        click.echo(f"{processes} processes (exit {codes}) spent ${spent:.2f} of ${budget}.00")


if __name__ == "__main__":
    main()
