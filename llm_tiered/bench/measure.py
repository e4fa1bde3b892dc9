"""Models and a plan → figures, and what could not be measured."""

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
from ..mlx.engine.residency import import_mlx_lm
from ..router.failures import explain
from . import masks, pairs, parts, startup, synthetic
from .figures import Failure, Figure
from .home import Subject, home
from .parts import Bench, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# In the order in which they are measured.
OF_MODELS: dict[str, Callable[[Bench], list[Figure]]] = {
    "load": parts.load,
    "raw": parts.raw,
    "batch": parts.batch,
    "schema": parts.schema,
    "chat": parts.chat,
}
OF_THE_PLUGIN = ("overhead", "start")
PARTS = (*OF_MODELS, "switch", *OF_THE_PLUGIN)


@dataclass
class Report:
    """All that was measured, and all that could not be."""

    figures: list[Figure] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def measure(
    subjects: Sequence[Subject], shapes: Sequence[str], plan: Plan, tell: Callable[[str], None]
) -> Report:
    """Measure these models, and random ones of these shapes; `tell` is told what comes next.

    What fails is noted, and the rest goes on. Raises ModelUnavailable where there is no MLX,
    RequestError where a random model can't be made.
    """
    measuring = _Measuring(plan, tell)
    # With the user's own settings, which count here.
    measuring.run("start", None, lambda: startup.start(plan.runs))
    if {*plan.parts} == {"start"}:
        return measuring.report
    limit = load_settings().config.memory_limit
    budget = limit or device.detect().budget
    import_mlx_lm()
    with tempfile.TemporaryDirectory(prefix="llm-tiered-bench.") as folder:
        found = list(subjects)
        for shape in shapes:
            tell(f"{shape}: making a random model of this shape")
            found.append(_build(shape, synthetic.SHAPES[shape], Path(folder)))
        tiny = _build("tiny", synthetic.TINY, Path(folder))
        with home(Path(folder, "llm"), [*found, tiny], tiny, limit):
            try:
                measuring.models(found, tiny, budget)
            finally:
                ENGINE.close()
    return measuring.report


def _build(name: str, shape: Mapping[str, Any], folder: Path) -> Subject:
    return Subject(f"mlx/synthetic-{name}", synthetic.build(shape, folder / name))


class _Measuring:
    """A plan as it is carried out."""

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell
        self.report = Report()

    def run(self, part: str, model: str | None, work: Callable[[], list[Figure]]) -> None:
        """Measure a part, if it is wanted."""
        if part not in self._plan.parts:
            return
        self._tell(f"{model}: {part}" if model else part)
        try:
            self.report.figures += work()
        except Exception as error:
            self._fail(part, model, error)

    def models(self, subjects: Sequence[Subject], tiny: Subject, budget: int) -> None:
        """Measure everything that a model is needed for."""
        benches = []
        for subject in subjects:
            try:
                benches.append(Bench(subject, self._plan, budget))
            except Exception as error:
                self._fail("load", subject.model_id, error)
        for bench in benches:
            for part, work in OF_MODELS.items():
                self.run(part, bench.subject.model_id, partial(work, bench))
        least = Bench(tiny, self._plan, budget)
        for bench, other in pairwise(benches if benches[1:] else [*benches, least]):
            self.run("switch", bench.subject.model_id, partial(pairs.switch, bench, other))
        self.run("schema", None, lambda: masks.of_wide_model(self._plan.runs))
        self.run("overhead", None, lambda: pairs.overhead(least))

    def _fail(self, part: str, model: str | None, error: Exception) -> None:
        problem = explain(error)
        fix = f" ({problem.fix})" if problem.fix else ""
        self.report.failures.append(Failure(part, model, f"{problem.reason}{fix}"))
