from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.plugins import pm

from llm_tiered.costs.ledger import Entry, Ledger
from llm_tiered.paths import ledger_path
from llm_tiered.server.instances import Instance, announced
from tests.cli.commands import (
    CLOUD,
    EMBEDDED,
    configure,
    cut_short,
    refused,
    run,
    run_json,
    tier,
)
from tests.dashboard.serving import free_port
from tests.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.hub_server import HubServer

KEY = "a-key-that-stays-secret"


def status() -> dict[str, Any]:
    """The output of `status --json`."""
    facts: dict[str, Any] = run_json("status")
    return facts


def tiers() -> dict[str, Any]:
    """The tiers by name."""
    return {entry["tier"]: entry for entry in status()["tiers"]}


def line(start: str) -> str:
    """The only line of the output with this beginning."""
    [match] = [row for row in run("status").stdout.splitlines() if row.startswith(start)]
    return match


def test_json_has_exactly_these_keys() -> None:
    """The JSON has the keys that programs depend on."""
    facts = status()
    assert set(facts) == {
        "version",
        "device",
        "gemini_key",
        "tiers",
        "endpoints",
        "names",
        "engine",
        "resident",
        "servers",
        "spent",
        "budget",
        "config_path",
        "config",
    }
    assert facts["version"] == version("llm-tiered")


def test_lists_the_tiers_and_the_last_resort() -> None:
    """All tiers are listed with their complexity and model, the embedded model last."""
    assert [
        (entry["tier"], entry["complexity"], entry["model"]) for entry in status()["tiers"]
    ] == [
        ("small", "1-4", "mlx/Phi-3.5-mini-instruct-4bit"),
        ("medium", "5-7", "mlx/Qwen2.5-7B-Instruct-4bit"),
        ("cloud", "8-10", CLOUD),
        ("embedded", "last resort", EMBEDDED),
    ]


def test_a_model_that_is_not_downloaded() -> None:
    """A model that is not on disk is shown with the size of its download."""
    small = tiers()["small"]
    assert small["on_disk"] is False
    assert small["size"] == 2_300_000_000
    assert small["source"] == "mlx-community/Phi-3.5-mini-instruct-4bit"
    assert line("small").endswith("not downloaded, about 2.3 GB")
    assert line("embedded").endswith("not downloaded, about 100 MB")


def test_says_where_a_model_is(tiny: Path, tiny_tiers: Path) -> None:
    """A model in a folder is on disk, with its path and the size of its weights."""
    small = tiers()["small"]
    assert small["on_disk"] is True
    assert small["path"] == str(tiny)
    assert small["size"] == (tiny / "model.safetensors").stat().st_size
    assert line("small").endswith(f" 1 MB in {tiny}")


def test_finds_a_downloaded_model(server: HubServer) -> None:
    """A model of a repository is on disk once it is downloaded, and not before."""
    configure(
        tier("all", "1-10", "mlx/remote"), models=[{"id": "mlx/remote", "repo": "tiny/model"}]
    )
    assert tiers()["all"]["on_disk"] is False
    assert line("all").endswith("not downloaded, about ?")
    run("download", "all")
    tier_facts = tiers()["all"]
    assert tier_facts["on_disk"] is True
    assert tier_facts["size"] == len(server.repos["tiny/model"]["model.safetensors"])


def test_finds_the_embedded_model(embedded_model: Path) -> None:
    """The embedded model is found where the plugin puts it."""
    assert tiers()["embedded"]["path"] == str(embedded_model)


def test_a_cloud_tier_has_no_files() -> None:
    """A cloud tier is shown as such, by its place alone."""
    assert tiers()["cloud"]["local"] is False
    assert line("cloud").split() == ["cloud", "8-10", CLOUD, "cloud"]


def test_a_tier_with_a_server_has_no_files() -> None:
    """Nothing claims that a server on this machine is in the cloud."""
    configure(tier("all", "1-10", "big") | {"server": f"http://127.0.0.1:{free_port()}/v1"})
    assert line("all  ").split() == ["all", "1-10", tiers()["all"]["model"], "here"]


def test_shows_damage(tiny: Path, tiny_tiers: Path) -> None:
    """A model with truncated weights is not on disk, and its error is shown instead."""
    cut_short(tiny)
    small = tiers()["small"]
    assert small["on_disk"] is False
    assert "model.safetensors is damaged" in small["error"]
    assert "model.safetensors is damaged" in line("small")


def test_shows_a_folder_that_is_gone(tmp_path: Path) -> None:
    """A model whose folder does not exist is shown with the error."""
    path = tmp_path / "gone"
    configure(tier("all", "1-10", "mlx/gone"), models=[{"id": "mlx/gone", "path": str(path)}])
    assert f"there is no folder {path}" in tiers()["all"]["error"]


@pytest.mark.parametrize("model", ["mlx/nobody-has-this", "gemini/nobody-has-this", "nobody"])
def test_shows_a_model_that_llm_does_not_know(model: str) -> None:
    """A tier with an unknown model is shown with the error, local or not."""
    configure(tier("all", "1-10", model))
    assert "llm knows no such model" in line("all")
    assert "llm knows no such model" in tiers()["all"]["error"]


def test_shows_a_local_model_by_an_alias_of_the_users_own(tiny: Path) -> None:
    """A user's alias of a local model is that model, whatever the alias looks like."""
    configure(tier("all", "1-10", "mlx/favourite"), models=[{"id": "mlx/tiny", "path": str(tiny)}])
    llm.set_alias("mlx/favourite", "mlx/tiny")
    assert tiers()["all"]["path"] == str(tiny)
    assert line("all").endswith(str(tiny))


class Plugin:
    """Another plugin."""

    @llm.hookimpl
    def register_models(self, register: Callable[..., None]) -> None:
        """Register its model."""
        register(StandIn("mlx/not-really"))


def test_shows_a_model_that_only_looks_local() -> None:
    """A tier whose model only looks like a local model is shown with the error."""
    configure(tier("all", "1-10", "mlx/not-really"))
    plugin = Plugin()
    pm.register(plugin)
    try:
        assert "is named like a local model (mlx/…) but is not one" in line("all")
    finally:
        pm.unregister(plugin)


def test_shows_a_cloud_model_by_an_alias_that_looks_local() -> None:
    """A user's alias of a cloud model is that model, whatever the alias looks like."""
    configure(tier("all", "1-10", "mlx/not-really"))
    llm.set_alias("mlx/not-really", CLOUD)
    assert tiers()["all"]["model"] == CLOUD
    assert tiers()["all"]["local"] is False


def test_shows_the_device() -> None:
    """The device is shown with its kind, name, memory, and the memory for models."""
    facts = status()["device"]
    assert set(facts) == {"kind", "name", "memory", "budget"}
    assert facts["kind"] in ("cpu", "metal", "cuda")
    assert 0 < facts["budget"] <= facts["memory"]
    assert line("device: ").startswith(f"device: {facts['kind']} ({facts['name']}), ")


def test_memory_limit() -> None:
    """The config's memory_limit replaces the default memory for models."""
    configure(memory_limit="3GB")
    assert status()["device"]["budget"] == 3_000_000_000
    assert line("device: ").endswith("models may use 3.0 GB")


@pytest.mark.usefixtures("no_mlx")
def test_works_without_mlx() -> None:
    """If MLX does not load, the reason is shown instead of the device."""
    assert set(status()["device"]) == {"error"}
    assert line("device: ") == f"device: {status()['device']['error']}"


def test_missing_key() -> None:
    """Without a key, the command that stores one is shown."""
    assert status()["gemini_key"] is None
    assert line("Gemini key: ") == "Gemini key: none (llm keys set gemini)"


@pytest.mark.parametrize(
    ("stored", "exported", "source"),
    [(True, False, "llm keys"), (False, True, "LLM_GEMINI_KEY"), (True, True, "llm keys")],
)
def test_source_of_the_key(
    user_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool, exported: bool, source: str
) -> None:
    """The key's source is shown in llm's order, and the key itself never is."""
    if stored:
        (user_path / "keys.json").write_text(json.dumps({"gemini": KEY}))
    if exported:
        monkeypatch.setenv("LLM_GEMINI_KEY", KEY)
    assert status()["gemini_key"] == source
    assert line("Gemini key: ") == f"Gemini key: {source}"
    assert KEY not in run("status").output + run("status", "--json").output


def test_a_broken_keys_file_is_reported(user_path: Path) -> None:
    """A keys.json that is not JSON is named, without a traceback."""
    (user_path / "keys.json").write_text("{")
    assert "keys.json" in refused("status")


def test_no_config_file(user_path: Path) -> None:
    """Without a config file its path is shown, and all values are defaults."""
    path = user_path / "tiered" / "config.yaml"
    facts = status()
    assert facts["config_path"] == str(path)
    assert {entry["from"] for entry in facts["config"].values()} == {"default"}
    assert line("config: ") == f"config: {path} (no such file; using the defaults)"


def test_changed_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of the file and the environment are listed with their source."""
    path = configure(fallback="local", default_complexity=3)
    monkeypatch.setenv("FORCE_LOCAL_LLM", "true")
    monkeypatch.setenv("COMPLEXITY_SMALL", "2")
    facts = status()
    assert facts["config"]["fallback"] == {"value": "local", "from": "config"}
    assert facts["config"]["force_local"] == {"value": True, "from": "environment"}
    assert facts["config"]["tiers"]["from"] == "environment"
    assert facts["config"]["log_api"]["from"] == "default"
    assert [entry["complexity"] for entry in facts["tiers"]][:2] == ["1-2", "3-7"]
    assert line("config: ") == f"config: {path}"
    assert sorted(run("status").stdout.partition("config: ")[2].splitlines()[1:]) == [
        "  default_complexity: from config",
        "  fallback: from config",
        "  force_local: from environment",
        "  tiers: from environment",
    ]


def test_engine_and_server(engine_says: Callable[..., None]) -> None:
    """The engine with its log and its models is shown, and so is a server."""
    assert (status()["engine"], status()["resident"]) == (None, [])
    assert "\nengine: none runs\n" in run("status").stdout
    engine_says()
    facts = status()
    assert facts["resident"] == ["mlx/tiny"]
    assert facts["engine"]["log"] == "/engine/host.log"
    url = "http://127.0.0.1:1/v1"
    with announced(Instance(url, "127.0.0.1", 1, log="/server.log")):
        shown = run("status").stdout
    assert "\nengine: process 4711 since " in shown
    assert ", log /engine/host.log\nin memory: mlx/tiny\n" in shown
    assert f"\nserver: {url} (process {os.getpid()}, log /server.log)\n" in shown


def test_no_engine_at_all() -> None:
    """The config can do without an engine."""
    configure(keep_warm=0)
    assert "\nengine: never used (keep_warm is 0)\n" in run("status").stdout


@pytest.mark.usefixtures("tiny_tiers")
def test_asks_and_writes_nothing(user_path: Path, connections: list[Any]) -> None:
    """The command makes no connection and does not change the user's folder."""
    before = sorted(user_path.rglob("*"))
    run("status")
    assert connections == []
    assert sorted(llm.user_dir().rglob("*")) == before


def test_budget() -> None:
    """The rest of the budget is shown, and the JSON has it in dollars."""
    configure(budget={"day": 1, "month": "20.50"})
    lines = run("status").stdout.splitlines()
    assert "budget: $1.00 of $1.00 left today" in lines
    assert "budget: $20.50 of $20.50 left this month" in lines
    assert run_json("status")["budget"][0] == {
        "name": "day",
        "limit": "1",
        "spent": "0",
        "left": "1",
    }


def test_spent() -> None:
    """What was spent is shown, how much of it is in no log, and how much has no known price."""
    assert run_json("status")["spent"] is None
    entry = Entry("a", 1, datetime.now(timezone.utc), "gemini/g", Decimal("0.25"))
    with Ledger(ledger_path()) as ledger:
        ledger.put([entry, entry._replace(attempt=2, amount=None)])
    line = "spent in the cloud: $0.25 today, $0.25 this month ($0.25 of it in no log)"
    assert f"{line}, and more for 1 request of unknown price" in run("status").stdout.splitlines()
    facts = {"day": "0.25", "month": "0.25", "unlogged_month": "0.25", "unpriced_requests": 1}
    assert run_json("status")["spent"] == facts
    ledger_path().write_bytes(b"no database" * 1000)
    assert "can't be used" in run_json("status")["spent"]["error"]


def test_budget_with_a_log_that_can_not_be_read(user_path: Path) -> None:
    """A damaged log is reported instead of the rest of the budget."""
    (user_path / "logs.db").write_bytes(b"no database" * 1000)
    configure(budget={"day": 1})
    [line] = [line for line in run("status").stdout.splitlines() if line.startswith("budget: ")]
    assert "can't be read" in line


def test_no_budget() -> None:
    """Without a budget none is shown."""
    assert "budget: " not in run("status").stdout
    assert run_json("status")["budget"] == []
