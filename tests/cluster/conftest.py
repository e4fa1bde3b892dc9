from __future__ import annotations

from typing import TYPE_CHECKING, Any

import distributed
import pytest

from llm_tiered.cluster.worker import RESOURCE
from llm_tiered.mlx.engine.engine import ENGINE
from tests.cli.batching import write_rows
from tests.cli.commands import CLOUD, configure, tier
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="package")
def cluster() -> Iterator[Any]:
    """A Dask cluster of two workers in this process, of which each answers four requests."""
    with distributed.LocalCluster(  # type: ignore[no-untyped-call]  # it has no types
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        resources={RESOURCE: 4},
        dashboard_address="127.0.0.1:0",
    ) as started:
        yield started
    ENGINE.close()


@pytest.fixture(scope="package")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model; read only."""
    return build("qwen2", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def rows(tiny: Path, tmp_path: Path, user_path: Path) -> str:
    """A file of ten rows, of which the first and the last must not leave this machine."""
    configure(
        tier("small", "1-7", "mlx/tiny", max_tokens=8, temperature=0),
        tier("cloud", "8-10", CLOUD),
        models=[{"id": "mlx/tiny", "path": str(tiny)}],
        keep_warm=0,
    )
    return write_rows(
        tmp_path,
        *(
            {"prompt": f"Say {number}", "complexity": 3}
            | ({"options": {"local_only": True}} if number in {0, 9} else {})
            for number in range(10)
        ),
    )
