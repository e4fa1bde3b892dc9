"""A tier whose model is there only while its server runs, while it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import gemini
from tests.cli.commands import CLOUD, configure, invoke, run, run_json, tier

if TYPE_CHECKING:
    from pytest_httpx import HTTPXMock

pytest_plugins = ("tests.model_servers",)

pytestmark = pytest.mark.usefixtures("ollama")

WHY = "Ollama is not running, or has no models"
FIX = "ollama serve, or ollama pull zephyr"


@pytest.fixture(autouse=True)
def _tiers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_GEMINI_KEY", gemini.KEY)
    tiers = tier("own", "1-7", "ollama/zephyr"), tier("cloud", "8-10", CLOUD)
    configure(*tiers, keep_warm=0)


def test_config_is_valid() -> None:
    """It is no mistake in the config, but is told."""
    result = run("config", "check")
    assert result.stdout.endswith("is valid\n")
    assert result.stderr == f"tier own, model ollama/zephyr: {WHY} ({FIX})\n"


def test_verify_status_and_route() -> None:
    """`verify` warns, `status` says so, and for `route` the tier is skipped, with what to do."""
    [finding] = [each for each in run_json("verify") if each["part"].startswith("own")]
    assert (finding["state"], finding["detail"], finding["fix"]) == ("warn", WHY, FIX)
    assert f"{WHY} ({FIX})" in run("status").output
    first, *_ = run_json("route", "-o", "complexity", "2", "Hello")["chain"]
    assert (first["outcome"], first["reason"]) == ("skipped", f"{WHY} → {FIX}")


@pytest.mark.parametrize("how", [[], ["--async"]])
def test_prompt(how: list[str], httpx_mock: HTTPXMock, caplog: pytest.LogCaptureFixture) -> None:
    """Another tier answers, and one line says why."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    result = invoke("-m", "tiered", *how, "-o", "complexity", "2", "Say hello")
    assert result.stdout == "Hello\n"
    assert caplog.messages == [f"{CLOUD} answers for own. ollama/zephyr skipped: {WHY}"]
