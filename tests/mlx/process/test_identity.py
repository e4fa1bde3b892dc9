"""What tells an engine and its callers apart, and a process from what is installed by now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llm_tiered.mlx.process import identity as identities
from llm_tiered.mlx.process.identity import identity, is_outdated

if TYPE_CHECKING:
    import pytest


def test_identity_survives_json() -> None:
    """It is compared after a journey as JSON."""
    assert json.loads(json.dumps(identity())) == identity()


def test_outdated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that runs during an update is outdated after it."""
    identity()
    assert not is_outdated()
    monkeypatch.setattr(identities, "_version", lambda package: f"newer {package}")
    assert is_outdated()
