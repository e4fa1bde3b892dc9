"""`llm tiered bench`: how fast local models are here, and what the plugin costs."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..bench.figures import as_text
from ..bench.home import Subject
from ..bench.measure import OF_THE_PLUGIN, PARTS, measure
from ..bench.parts import Plan
from ..bench.plot import bar_charts
from ..bench.synthetic import SHAPES
from ..config.local_models import local_models
from ..config.settings import load_settings
from ..errors import ModelUnavailable
from ..mlx.catalog import EMBEDDED, PREFIX
from ..mlx.weights import store
from .lookup import get_spec, tiered_model
from .options import number_option
from .output import check_folder, echo_json, echo_note, echo_table, json_option, write_text
from .status import device_facts

if TYPE_CHECKING:
    from ..bench.figures import Figure
    from ..bench.measure import BenchReport
    from ..mlx.catalog import ModelSpec

PACKAGES = ("llm-tiered", "llm", "mlx", "mlx-lm")


def _parts(context: click.Context, option: click.Parameter, text: str | None) -> tuple[str, ...]:
    """The parts in a list with commas; without a list, all of them."""
    if text is None:
        return PARTS
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise click.BadParameter(f"found {', '.join(unknown)!r}, expected {', '.join(PARTS)}")
    return names


@click.command("bench")
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@click.option(
    "shapes",
    "--synthetic",
    type=click.Choice(list(SHAPES)),
    metavar="SHAPE",
    multiple=True,
    help="Measure a model with random weights and the shape of a real one",
)
@click.option(
    "parts", "--only", callback=_parts, metavar="PART,…", help="Parts to measure  [default: all]"
)
@number_option("--runs", default=5, text="Number of runs for each part")
@number_option(
    "--tokens",
    default=64,
    least=2,
    text="Tokens per answer, half as many for schemas and copying; prompts are four times as long",
)
@number_option("--batch", default=8, least=2, text="Number of prompts sent at the same time")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a chart to this file, as SVG",
)
@json_option
@click.pass_context
def command(  # noqa: PLR0913, PLR0917 - one for each option
    context: click.Context,
    names: tuple[str, ...],
    shapes: tuple[str, ...],
    parts: tuple[str, ...],
    runs: int,
    tokens: int,
    batch: int,
    plot: Path | None,
    json_: bool,
) -> None:
    """Measure the speed of local models on this machine, compared with mlx_lm alone.

    Without names, this measures the models of the local tiers that are on disk and can run here,
    and the embedded model. Figures are medians. Each ratio compares runs that directly follow each
    other, so on a busy machine the ratios are more reliable than the figures. The parts are load,
    raw, batch, schema, schemas, copying, chat, warm, serve, switch, overhead, endpoints and start.
    The part schemas has 30 schemas as people use them, and copying has tasks whose answers stand in
    the prompt; both count the passes per token. The part warm runs prompts as commands, with models
    in the engine and without; serve starts `llm tiered serve` and mlx_lm.server, and lets many
    clients ask them at the same time. The part endpoints compares a tier that has a server with
    OpenAI's client alone.

    Exits with 1 if a part could not be measured.
    """
    if plot:
        check_folder(plot)
    plan = Plan(parts, runs, tokens, batch)
    needed = not {*parts} <= {*OF_THE_PLUGIN}
    subjects = _subjects(names, default=not shapes) if needed else []
    report = measure(subjects, shapes if needed else (), plan, echo_note)
    if json_:
        echo_json(_facts(report, plan))
    else:
        echo_table([_row(figure) for figure in report.figures], HEADERS)
    if plot:
        write_text(plot, bar_charts(report.figures))
    for failure in report.failures:
        echo_note(f"{failure.model or 'llm'}: {failure.part} failed: {failure.error}")
    if report.failures:
        context.exit(1)


def _subjects(names: tuple[str, ...], *, default: bool) -> list[Subject]:
    """The named models, downloaded if necessary, or those that can run here."""
    specs = [get_spec(name) for name in names]
    if not names and default:
        specs = _ready()
    return [Subject(spec.model_id, store.fetch(spec), spec.adapter) for spec in specs]


def _ready() -> list[ModelSpec]:
    """The models of the local tiers that are on disk and can run here, and the embedded one."""
    settings = load_settings()
    ids = {tier.model for tier in settings.tiers if tier.model_id.startswith(PREFIX)}
    ready = []
    for spec in local_models():
        if spec.model_id in ids and spec.model_id != EMBEDDED.model_id:
            model: Any = tiered_model().registry.get(spec.model_id)
            try:
                model.check(allow_cpu=settings.config.allow_cpu)
            except ModelUnavailable as error:
                echo_note(f"{spec.model_id}: left out: {error}")
                continue
            if store.locate(spec) is None:
                echo_note(f"{spec.model_id}: left out: not downloaded")
                continue
            ready.append(spec)
    return [*ready, *(spec for spec in local_models() if spec.model_id == EMBEDDED.model_id)]


def _facts(report: BenchReport, plan: Plan) -> dict[str, Any]:
    return {
        "versions": {name: version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "device": device_facts(),
        "settings": asdict(plan),
        "figures": [asdict(figure) for figure in report.figures],
        "failures": [asdict(failure) for failure in report.failures],
    }


HEADERS = ("model", "figure", "here", "", "against", "ratio", "")


def _row(figure: Figure) -> list[str | None]:
    baseline = ratio = None
    if figure.baseline is not None and figure.ratio is not None and figure.quartiles:
        baseline = as_text(figure.baseline, figure.unit)
        ratio = "{:.3f} ({:.3f} to {:.3f})".format(figure.ratio, *figure.quartiles)
    return [
        figure.model,
        figure.label,
        as_text(figure.value, figure.unit),
        baseline,
        figure.against,
        ratio,
        figure.note,
    ]
