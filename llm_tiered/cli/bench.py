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
from ..errors import ModelUnavailable, RequestError
from ..mlx.catalog import EMBEDDED
from ..mlx.weights import store
from .lookup import local_model, tiered_model
from .output import echo_json, echo_table, json_option
from .status import device_facts

if TYPE_CHECKING:
    from ..bench.figures import Figure
    from ..bench.measure import BenchReport
    from ..mlx.catalog import ModelSpec

PACKAGES = ("llm-tiered", "llm", "mlx", "mlx-lm")


def _parts(context: click.Context, option: click.Parameter, text: str | None) -> tuple[str, ...]:
    """The parts that a list with commas names; without one, all of them."""
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
    help="A random model of the size of a real one, in place of its weights",
)
@click.option("parts", "--only", callback=_parts, metavar="PART,…", help="Measure only these parts")
@click.option(
    "--runs", type=click.IntRange(min=1), default=5, show_default=True, help="Rounds of each part"
)
@click.option(
    "--tokens",
    type=click.IntRange(min=2),
    default=64,
    show_default=True,
    help="Tokens of an answer; prompts have four times as many",
)
@click.option(
    "--batch",
    type=click.IntRange(min=2),
    default=8,
    show_default=True,
    help="Prompts that are asked at once",
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the figures as SVG"
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
    """Measure local models here, next to mlx_lm by itself.

    Without names: the models of the local tiers that are on disk and can run here, and the
    embedded one. Figures are medians, and ratios are taken between runs right after each other:
    where the machine has other things to do, trust the ratios. Parts are load, raw, batch,
    schema, chat, switch, overhead and start.

    Exits with 1 if a part could not be measured.
    """
    if plot and not plot.absolute().parent.is_dir():
        raise RequestError(f"there is no folder {plot.absolute().parent} for the plot")
    plan = Plan(parts, runs, tokens, batch)
    needed = not {*parts} <= {*OF_THE_PLUGIN}
    subjects = _subjects(names, default=not shapes) if needed else []
    report = measure(subjects, shapes if needed else (), plan, _tell)
    if json_:
        echo_json(_facts(report, plan))
    else:
        echo_table([_row(figure) for figure in report.figures], HEADERS)
    if plot:
        _write(plot, bar_charts(report.figures))
    for failure in report.failures:
        _tell(f"{failure.model or 'llm'}: {failure.part} failed: {failure.error}")
    if report.failures:
        context.exit(1)


def _write(plot: Path, drawing: str) -> None:
    try:
        plot.write_text(drawing, "utf-8")
    except OSError as error:
        raise RequestError(f"the plot can't be written to {plot}: {error.strerror}") from None


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _subjects(names: tuple[str, ...], *, default: bool) -> list[Subject]:
    """The models that are named, fetched if need be, or those that can run here."""
    specs = [_find(name) for name in names]
    if not names and default:
        specs = _ready()
    return [Subject(spec.model_id, store.fetch(spec), spec.adapter) for spec in specs]


def _find(name: str) -> ModelSpec:
    spec = local_model(name)
    if spec:
        return spec
    raise RequestError(f"no local model is called {name!r}", fix="llm tiered models")


def _ready() -> list[ModelSpec]:
    """The models of the local tiers that are on disk and can run here, and the embedded one."""
    settings = load_settings()
    wanted = {tier.model for tier in settings.tiers if tier.local}
    found = []
    for spec in local_models():
        if spec.model_id in wanted and spec.model_id != EMBEDDED.model_id:
            model: Any = tiered_model().registry.get(spec.model_id)
            try:
                model.check(allow_cpu=settings.config.allow_cpu)
            except ModelUnavailable as error:
                _tell(f"{spec.model_id}: left out: {error}")
                continue
            if store.locate(spec) is None:
                _tell(f"{spec.model_id}: left out: not downloaded")
                continue
            found.append(spec)
    return [*found, *(spec for spec in local_models() if spec.model_id == EMBEDDED.model_id)]


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
