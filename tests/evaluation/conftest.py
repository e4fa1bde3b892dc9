from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.batch.echo import Echoes, config, registered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def echoes(config_file: Path) -> Iterator[Echoes]:
    """Echo models as tiers, without logging; the config allows fallbacks."""
    config_file.write_text(yaml.safe_dump(config(fallback="any")))
    with registered() as plugin:
        yield plugin
