"""Simulate a month of a music-teaching service: `python -m tests.cache.repeat_workload`.

The requests, many of them repeated, go through the real `tiered` with the cache on, into a log of
their own. The models are scripts: two in place of the local ones, and Google's side of llm-gemini.
They take no time and report token counts, so that the figures are those of routing and cache.
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
from llm_tiered.costs.money import Comparison
from llm_tiered.costs.savings import savings_report
from llm_tiered.paths import config_path
from llm_tiered.wording import dollars
from tests import gemini
from tests.stand_in import StandIn
from tests.toys import MEDIUM, SMALL, TIERS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from llm_tiered.costs.tally import Tally
    from tests.stand_in import Action

# The version that Google reports: the one whose price everything is compared with.
VERSION = gemini.MODEL.removeprefix("gemini/")


@dataclass(frozen=True)
class Work:
    """The requests for a task in a month, drawn from a catalogue of `distinct` ones.

    The n-th of the catalogue is drawn 1/n**skew times as often as the first. `input` and `output`
    are typical numbers of tokens, including instructions and reasoning.
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
    """A request of the catalogue, with its tokens."""

    work: Work
    prompt: str
    tokens: prices.Tokens

    @property
    def cloud_cost(self) -> Decimal:
        """The dollars that it costs on the cloud tier's model."""
        cost = prices.cost(gemini.MODEL, self.tokens)
        assert cost is not None
        return cost


def month(rng: random.Random, share: float) -> list[Request]:
    """Return a share of the month's requests, in random order."""
    requests: list[Request] = []
    for work in MONTH:
        catalogue = [
            Request(work, work.prompt.format(number), _tokens(rng, work))
            for number in range(1, work.distinct + 1)
        ]
        weights = [1 / rank**work.skew for rank in range(1, work.distinct + 1)]
        requests += rng.choices(catalogue, weights, k=max(round(work.requests * share), 1))
    rng.shuffle(requests)
    return requests


def _tokens(rng: random.Random, work: Work) -> prices.Tokens:
    return prices.Tokens(
        round(work.input * rng.lognormvariate(0, 0.25)),
        round(work.output * rng.lognormvariate(0, 0.25)),
    )


class LocalModels:
    """The plugin with the local models, which answer each request with its number of tokens."""

    __name__ = "local-models"

    def __init__(self, tokens: dict[str, prices.Tokens]) -> None:
        self.tokens = tokens

    @llm.hookimpl
    def register_models(self, register: Callable[..., None]) -> None:
        """Register them."""
        for model_id in (SMALL, MEDIUM):
            register(StandIn(model_id, self._script, runs_here=True))

    def _script(self, prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        tokens = self.tokens[prompt.prompt]
        yield f"The answer to: {prompt.prompt}"
        response.set_usage(input=tokens.input, output=tokens.output)


def google(tokens: dict[str, prices.Tokens]) -> Callable[..., httpx.Response]:
    """Return Google's side of llm-gemini's requests."""

    def answer(_: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        assert gemini.URL.fullmatch(str(request.url))
        sent = json.loads(request.read())
        text = sent["contents"][-1]["parts"][-1]["text"]
        counts = tokens[text]
        last = gemini.last(gemini.text(f"The answer to: {text}"))
        last["modelVersion"] = VERSION
        last["usageMetadata"] = {
            "promptTokenCount": counts.input,
            "candidatesTokenCount": counts.output // 2,
            "thoughtsTokenCount": counts.output - counts.output // 2,
            "totalTokenCount": counts.input + counts.output,
        }
        return httpx.Response(200, stream=gemini.Stream(gemini.body(last)))

    return answer


@contextmanager
def service(tokens: dict[str, prices.Tokens]) -> Iterator[Path]:
    """Set up a user directory with the config and the models of the service; yield the log."""
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
        plugin = LocalModels(tokens)
        pm.register(plugin)
        stack.callback(pm.unregister, plugin)
        yield folder / "logs.db"


@click.command()
@click.option("--share", default=1.0, show_default=True, help="Share of a month")
@click.option("--seed", default=1, show_default=True, help="Each seed gives another month")
def main(share: float, seed: int) -> None:
    """Simulate the month, and print what it cost."""
    requests = month(random.Random(seed), share)
    with service({request.prompt: request.tokens for request in requests}) as log:
        model = llm.get_model("tiered")
        for request in requests:
            model.prompt(request.prompt, task=request.work.task).text()
        report = savings_report(log, Comparison(gemini.MODEL), by="task")
    # The sum of the report must be that of the requests.
    everything = sum((request.cloud_cost for request in requests), Decimal(0))
    assert report.total.in_cloud.known == everything
    rows = [
        row(work.task, [request for request in requests if request.work is work], tally)
        for work in MONTH
        if (tally := report.groups[work.task])
    ]
    click.echo(tabulate([*rows, row("together", requests, report.total)], HEADERS))
    saved = report.total.saved.known
    click.echo(
        f"\nSaved against all in the cloud: {dollars(saved)}, {saved / everything:.1%}. "
        f"The cache alone would save {1 - cost_once(requests) / everything:.1%} there."
    )


HEADERS = ["task", "requests", "distinct", "from cache", "hit rate", "tokens in", "tokens out"]
HEADERS += ["all in the cloud", "cloud and cache", "tiers and cache"]


def row(name: str, requests: list[Request], tally: Tally) -> list[object]:
    """Return a row of the table: the requests, and what they cost in each way."""
    return [
        name,
        tally.requests,
        len(set(requests)),
        tally.cached,
        f"{tally.cached / tally.requests:.1%}",
        f"{sum(request.tokens.input for request in requests):,}",
        f"{sum(request.tokens.output for request in requests):,}",
        dollars(tally.in_cloud.dollars),
        dollars(cost_once(requests)),
        dollars(tally.spent.dollars),
    ]


def cost_once(requests: list[Request]) -> Decimal:
    """Return the dollars for the requests in the cloud, if none is paid for twice."""
    return sum((request.cloud_cost for request in set(requests)), Decimal(0))


if __name__ == "__main__":
    main()
