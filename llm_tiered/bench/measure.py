"""Models and a plan → figures, and the parts that failed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.settings import load_settings
from ..mlx import device
from ..mlx.engine.engine import ENGINE
from ..mlx.engine.loading import import_mlx_lm
from ..router.failures import explain
from . import copying, endpoints, masks, pairs, parts, schemas, serve, startup, synthetic, warm
from .figures import Failure, Figure
from .home import Subject, home
from .parts import Bench, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# The parts in the order in which they are measured.
OF_MODELS: dict[str, Callable[[Bench], list[Figure]]] = {
    "load": parts.load,
    "raw": parts.raw,
    "batch": parts.batch,
    "schema": parts.schema,
    "schemas": schemas.schemas,
    "copying": copying.copying,
    "chat": parts.chat,
    "warm": warm.commands_of,
    "serve": lambda bench: serve.serve(bench, bench.plan.batch),
}
OF_THE_PLUGIN = ("overhead", "endpoints", "start")
# Those of them that need no model.
WITHOUT_MODELS = {"endpoints", "start"}
# A server with a tiny model gets this many times as many clients.
CROWD = 8
PARTS = (*OF_MODELS, "switch", *OF_THE_PLUGIN)


@dataclass
class BenchReport:
    """The figures, and the parts that could not be measured."""

    figures: list[Figure] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def measure(
    subjects: Sequence[Subject], shapes: Sequence[str], plan: Plan, announce: Callable[[str], None]
) -> BenchReport:
    """Measure these models, and random models of these shapes.

    `announce` receives a line before each part. A part that fails is reported, and the others are
    measured. Raises ModelUnavailable if there is no MLX, RequestError if a random model can't be
    built.
    """
    session = _Session(plan, announce)
    # Before the temporary user directory: this part measures llm with the user's own settings.
    session.run("start", None, lambda: startup.start(plan.runs))
    session.run("endpoints", None, lambda: endpoints.endpoints(plan))
    if {*plan.parts} <= WITHOUT_MODELS:
        return session.report
    limit = load_settings().config.memory_limit
    budget = limit or device.detect().budget
    import_mlx_lm()
    with tempfile.TemporaryDirectory(prefix="llm-tiered-bench.") as folder:
        all_subjects = list(subjects)
        for shape in shapes:
            announce(f"{shape}: building a random model of this shape")
            all_subjects.append(_build(shape, synthetic.SHAPES[shape], Path(folder)))
        tiny = _build("tiny", synthetic.TINY, Path(folder))
        with home(Path(folder, "llm"), [*all_subjects, tiny], tiny, limit):
            try:
                session.measure_models(all_subjects, tiny, budget)
            finally:
                ENGINE.close()
    return session.report


def _build(name: str, shape: Mapping[str, Any], folder: Path) -> Subject:
    return Subject(f"mlx/synthetic-{name}", synthetic.build(shape, folder / name))


class _Session:
    """The measurements of one plan, and their report."""

    def __init__(self, plan: Plan, announce: Callable[[str], None]) -> None:
        self._plan = plan
        self._announce = announce
        self.report = BenchReport()

    def run(self, part: str, model: str | None, work: Callable[[], list[Figure]]) -> None:
        """Measure a part if the plan includes it."""
        if part not in self._plan.parts:
            return
        self._announce(f"{model}: {part}" if model else part)
        try:
            self.report.figures += work()
        except Exception as error:
            self._fail(part, model, error)

    def measure_models(self, subjects: Sequence[Subject], tiny: Subject, budget: int) -> None:
        """Measure all parts that need a model; `tiny` is used where any model will do."""
        benches = []
        for subject in subjects:
            try:
                benches.append(Bench(subject, self._plan, budget))
            except Exception as error:
                self._fail("load", subject.model_id, error)
        for bench in benches:
            for part, work in OF_MODELS.items():
                self.run(part, bench.subject.model_id, partial(work, bench))
        smallest = Bench(tiny, self._plan, budget)
        for bench, other in pairwise(benches if benches[1:] else [*benches, smallest]):
            self.run("switch", bench.subject.model_id, partial(pairs.switch, bench, other))
        self.run("schema", None, lambda: masks.of_wide_model(self._plan.runs))
        self.run("warm", tiny.model_id, lambda: warm.engine(smallest))
        self.run("serve", tiny.model_id, lambda: serve.serve(smallest, CROWD * self._plan.batch))
        self.run("overhead", None, lambda: pairs.overhead(smallest))

    def _fail(self, part: str, model: str | None, error: Exception) -> None:
        problem = explain(error)
        fix = f" ({problem.fix})" if problem.fix else ""
        self.report.failures.append(Failure(part, model, f"{problem.reason}{fix}"))
