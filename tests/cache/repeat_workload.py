"""A month of a music-teaching service, with its repeats: `python -m tests.cache.repeat_workload`.

The requests go through the real `tiered`, with the cache on, into a log of their own. Behind it
are scripts: two models in place of the local ones, and Google's side of llm-gemini. They take no
time and say how many tokens there were, so that the figures are those of routing and cache.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import click
import httpx
import llm
import yaml
from llm.plugins import load_plugins, pm
from tabulate import tabulate

from llm_tiered.config.settings import ENVIRONMENT
from llm_tiered.costs import prices
from llm_tiered.costs.savings import Comparison, savings_report
from llm_tiered.paths import config_path
from llm_tiered.wording import dollars
from tests import gemini
from tests.toys import MEDIUM, SMALL, TIERS, Toy, ToyModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llm_tiered.costs.tally import Tally

# Google says which version answered. This one has the price that everything is compared at.
VERSION = gemini.MODEL.removeprefix("gemini/")


@dataclass(frozen=True)
class Work:
    """What is asked for in a month: so many requests, out of so many different ones.

    The n-th of these is asked for 1/n**skew times as often as the first: as each other, if that
    is 0. Tokens are the usual number, with the instructions and the thoughts.
    """

    task: str
    prompt: str
    requests: int
    distinct: int
    skew: float
    input: int
    output: int


MONTH = (
    Work("curriculum_planning", "Plan twelve weeks for pupil {}.", 10, 40, 0, 2500, 5000),
    Work("tutorial_generation", "Write the tutorial on topic {}.", 50, 80, 0.5, 900, 1800),
    Work("theory_analysis", "Analyse the harmony of piece {}.", 200, 120, 1, 700, 600),
    Work("exercise_generation", "Write exercise {} of the catalogue.", 500, 150, 1, 400, 350),
)


@dataclass(frozen=True)
class Request:
    """One of the different requests, and the tokens that it takes."""

    work: Work
    prompt: str
    tokens: prices.Tokens

    @property
    def cloud_cost(self) -> Decimal:
        """Dollars for it on the cloud tier's model."""
        cost = prices.cost(gemini.MODEL, self.tokens)
        assert cost is not None
        return cost


def month(rng: random.Random, share: float) -> list[Request]:
    """That share of the month's requests, in any order."""
    asked: list[Request] = []
    for work in MONTH:
        catalogue = [
            Request(work, work.prompt.format(number), _tokens(rng, work))
            for number in range(1, work.distinct + 1)
        ]
        weights = [1 / rank**work.skew for rank in range(1, work.distinct + 1)]
        asked += rng.choices(catalogue, weights, k=max(round(work.requests * share), 1))
    rng.shuffle(asked)
    return asked


def _tokens(rng: random.Random, work: Work) -> prices.Tokens:
    return prices.Tokens(
        round(work.input * rng.lognormvariate(0, 0.25)),
        round(work.output * rng.lognormvariate(0, 0.25)),
    )


class Script(Toy):
    """A local model that answers each request with as many tokens as it takes."""

    def __init__(self, tokens: dict[str, prices.Tokens]) -> None:
        super().__init__(does=[])
        self.tokens = tokens

    def play(self, prompt: llm.Prompt, response: Any) -> Iterator[Any]:
        """Answer, and count the tokens."""
        asked = prompt.prompt
        yield f"The answer to: {asked}"
        tokens = self.tokens[asked]
        response.set_usage(input=tokens.input, output=tokens.output)


class Scripts:
    """The plugin that has the local models."""

    __name__ = "scripts"

    def __init__(self, tokens: dict[str, prices.Tokens]) -> None:
        self.tokens = tokens

    @llm.hookimpl
    def register_models(self, register: Callable[..., None]) -> None:
        """Register them."""
        for model_id in (SMALL, MEDIUM):
            register(ToyModel(model_id, Script(self.tokens)))


def google(tokens: dict[str, prices.Tokens]) -> Callable[..., httpx.Response]:
    """Google's side of a request of llm-gemini."""

    def answer(_: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        assert gemini.URL.fullmatch(str(request.url))
        sent = json.loads(request.read())
        asked = sent["contents"][-1]["parts"][-1]["text"]
        counted = tokens[asked]
        last = gemini.last(gemini.text(f"The answer to: {asked}"))
        last["modelVersion"] = VERSION
        last["usageMetadata"] = {
            "promptTokenCount": counted.input,
            "candidatesTokenCount": counted.output // 2,
            "thoughtsTokenCount": counted.output - counted.output // 2,
            "totalTokenCount": counted.input + counted.output,
        }
        return httpx.Response(200, stream=gemini.Stream(gemini.body(last)))

    return answer


@contextmanager
def service(tokens: dict[str, prices.Tokens]) -> Iterator[Path]:
    """A folder of llm with the config and the models of the service; gives the log."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environment = {"LLM_USER_PATH": str(folder), "LLM_GEMINI_KEY": gemini.KEY}
        stack.enter_context(mock.patch.dict(os.environ, environment))
        for name in ENVIRONMENT:
            os.environ.pop(name, None)
        config_path().parent.mkdir()
        config_path().write_text(yaml.safe_dump({"tiers": TIERS, "cache": True}))
        stack.enter_context(
            mock.patch.object(httpx.HTTPTransport, "handle_request", google(tokens))
        )
        load_plugins()
        plugin = Scripts(tokens)
        pm.register(plugin)
        stack.callback(pm.unregister, plugin)
        yield folder / "logs.db"


@click.command()
@click.option("--share", default=1.0, show_default=True, help="How much of a month")
@click.option("--seed", default=1, show_default=True, help="Another seed, another month")
def main(share: float, seed: int) -> None:
    """Let the month pass, and print what it cost."""
    asked = month(random.Random(seed), share)
    with service({request.prompt: request.tokens for request in asked}) as log:
        model = llm.get_model("tiered")
        for request in asked:
            model.prompt(request.prompt, task=request.work.task).text()
        report = savings_report(log, Comparison(gemini.MODEL), by="task")
    # The report's sum has to be that of the requests as they were made up.
    everything = sum((request.cloud_cost for request in asked), Decimal(0))
    assert report.total.in_cloud.known == everything
    rows = [
        row(work.task, [request for request in asked if request.work is work], tally)
        for work in MONTH
        if (tally := report.groups[work.task])
    ]
    click.echo(tabulate([*rows, row("together", asked, report.total)], HEADERS))
    saved = report.total.saved.known
    click.echo(
        f"\nSaved against all in the cloud: {dollars(saved)}, {saved / everything:.1%}. "
        f"The cache alone would save {1 - once(asked) / everything:.1%} there."
    )


HEADERS = ["task", "requests", "different", "from cache", "hit rate", "tokens in", "tokens out"]
HEADERS += ["all in the cloud", "there with the cache", "tiers and cache"]


def row(name: str, asked: list[Request], tally: Tally) -> list[object]:
    """A row of the table: what was asked, and what it cost one way and another."""
    return [
        name,
        tally.requests,
        len(set(asked)),
        tally.cached,
        f"{tally.cached / tally.requests:.1%}",
        f"{sum(request.tokens.input for request in asked):,}",
        f"{sum(request.tokens.output for request in asked):,}",
        dollars(tally.in_cloud.dollars),
        dollars(once(asked)),
        dollars(tally.spent.dollars),
    ]


def once(asked: list[Request]) -> Decimal:
    """Dollars for them in the cloud, if none is paid for twice."""
    return sum((request.cloud_cost for request in set(asked)), Decimal(0))


if __name__ == "__main__":
    main()
