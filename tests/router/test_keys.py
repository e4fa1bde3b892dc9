"""Who may have the key of a request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.router.keys import fingerprint, key_fix, request_key
from tests.router.services import CLAUDE, FLASH, GPT, LOCAL, PRO, SERVER

if TYPE_CHECKING:
    from pathlib import Path

ALL = [FLASH, PRO, CLAUDE, GPT, SERVER, LOCAL]


@pytest.fixture(autouse=True)
def _stored(user_path: Path) -> None:
    """Keys that are stored: two with the names of providers, and one with a name of the user's."""
    keys = {"gemini": "stored-gemini", "anthropic": "stored-anthropic", "work": "stored-work"}
    (user_path / "keys.json").write_text(json.dumps(keys))


def receivers(value: str, *candidates: Any) -> list[str]:
    """The ids of all models that get the key; the request was decided for the first candidate."""
    key = request_key(value, candidates, ALL)
    return [model.model_id for model in ALL if key.for_model(model) == value]


GOOGLE = [FLASH.model_id, PRO.model_id]
ANTHROPIC = [CLAUDE.model_id]


@pytest.mark.parametrize(
    ("value", "candidates", "expected"),
    [
        # For the decided tier, and other tiers of its provider
        ("raw", [FLASH, CLAUDE, LOCAL], GOOGLE),
        ("raw", [CLAUDE, FLASH, LOCAL], ANTHROPIC),
        ("raw", [GPT], [GPT.model_id]),
        ("raw", [SERVER, FLASH], [SERVER.model_id]),
        # A name of the user's own says nothing about the provider
        ("work", [CLAUDE, FLASH], ANTHROPIC),
        # For the models that need the key with this name, whatever was decided
        ("anthropic", [FLASH, CLAUDE], ANTHROPIC),
        ("anthropic", [LOCAL, FLASH], ANTHROPIC),
        ("gemini", [LOCAL, CLAUDE, GPT], GOOGLE),
        # The name of a provider without a stored key is a key like any other
        ("openai", [FLASH, GPT], GOOGLE),
        # Decided for a local model: it can only be meant for the cloud, if that is one provider
        ("raw", [LOCAL, FLASH, PRO], GOOGLE),
        ("raw", [LOCAL, FLASH, CLAUDE], []),
        ("raw", [LOCAL, FLASH, None], []),
        ("raw", [LOCAL], []),
        # Decided for a model that is not installed: nobody else gets its key
        ("raw", [None, FLASH], []),
    ],
)
def test_receivers(value: str, candidates: list[Any], expected: list[str]) -> None:
    """A key reaches the decided model's provider or the one that it names, and nobody else."""
    assert receivers(value, *candidates) == expected


def test_key_fix() -> None:
    """The hint names the stored key and the variable of the model's own provider."""
    assert key_fix(CLAUDE) == "llm keys set anthropic, or ANTHROPIC_API_KEY"
    assert (key_fix(SERVER), key_fix(None)) == (None, None)


def test_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fingerprint changes with the key, wherever it comes from, and does not show it."""
    prints = [fingerprint(FLASH, None), fingerprint(FLASH, "raw"), fingerprint(FLASH, "work")]
    assert len(set(prints)) == 3
    assert fingerprint(FLASH, "stored-gemini") == prints[0]
    assert not any("stored" in (each or "") for each in prints)
    assert (fingerprint(SERVER, None), fingerprint(GPT, None)) == (None, None)
    monkeypatch.setenv("OPENAI_API_KEY", "of-openai")
    assert fingerprint(GPT, None) is not None
