from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.weights.inspect import INDEX
from tests import gemini
from tests.cli.commands import CLOUD, EMBEDDED, configure, cut_short, run, run_json, tier
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

KEY = "a-key-that-stays-secret"
SMALL = "small (mlx/tiny)"


def verify(*args: str, code: int = 0) -> dict[str, dict[str, str]]:
    """The findings of `verify --json`, by part."""
    return {finding["part"]: finding for finding in run_json("verify", *args, code=code)}


def states(findings: dict[str, dict[str, str]]) -> dict[str, str]:
    """The state of each part."""
    return {part: finding["state"] for part, finding in findings.items()}


@pytest.fixture
def one_tier(tiny: Path) -> None:
    """One tier with the tiny model, and no cloud."""
    configure(tier("small", "1-10", "mlx/tiny"), models=[{"id": "mlx/tiny", "path": str(tiny)}])


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """An API key of Gemini in the environment."""
    monkeypatch.setenv("LLM_GEMINI_KEY", KEY)
    return KEY


@pytest.mark.usefixtures("tiny_tiers", "embedded_model", "key")
def test_all_is_well() -> None:
    """If everything works, each part is ok and the exit code is 0."""
    assert states(verify()) == {
        "plugin": "ok",
        "config": "ok",
        "names": "ok",
        "MLX": "ok",
        "llm-gemini": "ok",
        "log": "ok",
        "engine": "ok",
        SMALL: "ok",
        "medium (mlx/larger)": "ok",
        f"cloud ({CLOUD})": "ok",
        f"embedded ({EMBEDDED})": "ok",
    }


@pytest.mark.usefixtures("one_tier")
def test_json_has_exactly_these_keys() -> None:
    """Each finding has a part, a state, a detail, and a fix or null."""
    for finding in run_json("verify"):
        assert set(finding) == {"part", "state", "detail", "fix"}
        assert finding["state"] in ("ok", "warn", "fail")


@pytest.mark.usefixtures("one_tier", "embedded_model")
def test_text_output() -> None:
    """Without --json each finding is a line with state, part and detail."""
    findings = verify()
    lines = run("verify").stdout.splitlines()
    assert len(lines) == len(findings)
    for line, (part, finding) in zip(lines, findings.items(), strict=True):
        assert line.startswith(f"{finding['state']}    {part}: {finding['detail']}")


def test_a_fix_follows_its_finding(tmp_path: Path, tiny: Path, one_tier: None) -> None:
    """The fix is at the end of the line."""
    cut_short(tiny)
    text = run("verify", code=1).stdout
    [line] = [line for line in text.splitlines() if SMALL in line]
    assert line.startswith("fail  ")
    assert line.endswith(" → copy the file again")


@pytest.mark.usefixtures("embedded_model")
def test_missing_key_and_models_are_warnings() -> None:
    """A missing key and missing models are warnings if another model can answer."""
    findings = states(verify())
    assert findings["llm-gemini"] == "warn"
    assert findings[f"cloud ({CLOUD})"] == "warn"
    assert findings["small (mlx/Phi-3.5-mini-instruct-4bit)"] == "warn"
    assert findings["medium (mlx/Qwen2.5-7B-Instruct-4bit)"] == "warn"
    assert findings[f"embedded ({EMBEDDED})"] == "ok"
    assert "chain" not in findings


@pytest.mark.usefixtures("one_tier", "embedded_model")
def test_says_whether_llm_gemini_is_needed() -> None:
    """Without a Gemini tier, llm-gemini and its key are not needed."""
    assert verify()["llm-gemini"]["detail"] == "no tier needs it"


@pytest.mark.usefixtures("tiny_tiers")
def test_source_of_the_key(user_path: Path) -> None:
    """The key's source is shown, and the key itself never is."""
    (user_path / "keys.json").write_text(json.dumps({"gemini": KEY}))
    assert verify()["llm-gemini"]["detail"] == "installed, with an API key from llm keys"
    assert KEY not in run("verify").output + run("verify", "--json").output


@pytest.mark.usefixtures("tiny_tiers", "key", "no_mlx")
def test_works_without_mlx() -> None:
    """Without MLX there is a warning; the exit code is 0, as the cloud can answer."""
    findings = states(verify())
    assert findings["MLX"] == findings[SMALL] == "warn"
    assert findings[f"cloud ({CLOUD})"] == "ok"


def test_nothing_can_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any model on disk or to download, the chain fails."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    findings = verify(code=1)
    assert findings["chain"]["detail"] == "no model can answer a prompt"
    assert {part for part, state in states(findings).items() if state == "fail"} == {"chain"}


def _lose_a_shard(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "model-2.safetensors"}}))


def _spoil_the_header(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(bytes(8) + weights.read_bytes()[8:])


@pytest.mark.usefixtures("one_tier", "embedded_model")
@pytest.mark.parametrize("damage", [cut_short, _lose_a_shard, _spoil_the_header])
def test_damaged_weights_are_a_failure(tiny: Path, damage: Any) -> None:
    """A damaged model of a tier fails, even if the embedded model could answer."""
    damage(tiny)
    findings = verify(code=1)
    assert findings[SMALL]["state"] == "fail"
    assert findings[SMALL]["fix"]
    assert findings[f"embedded ({EMBEDDED})"]["state"] == "ok"


def test_a_damaged_embedded_model_is_a_failure(embedded_model: Path, one_tier: None) -> None:
    """A damaged embedded model fails, with the command that fixes it."""
    cut_short(embedded_model)
    finding = verify(code=1)[f"embedded ({EMBEDDED})"]
    assert finding["state"] == "fail"
    assert finding["fix"] == f"llm tiered download {EMBEDDED}"


@pytest.mark.usefixtures("embedded_model")
@pytest.mark.parametrize("model", ["mlx/nobody-has-this", "gemini/nobody-has-this", "nobody"])
def test_an_unknown_model_is_a_failure(model: str) -> None:
    """A tier with an unknown model fails, with the file to correct."""
    path = configure(tier("all", "1-10", model))
    finding = verify(code=1)[f"all ({model})"]
    assert finding["state"] == "fail"
    assert finding["detail"].startswith("llm knows no such model")
    assert finding["fix"] == f"correct it in {path}"


@pytest.mark.usefixtures("embedded_model")
def test_an_option_that_the_model_lacks_is_a_failure(tiny: Path) -> None:
    """A tier with options that its model does not have fails."""
    configure(
        tier("small", "1-10", "mlx/tiny", colour="red"),
        models=[{"id": "mlx/tiny", "path": str(tiny)}],
    )
    finding = verify(code=1)[SMALL]
    assert finding["state"] == "fail"
    assert "colour" in finding["detail"]


@pytest.mark.usefixtures("embedded_model")
def test_a_tier_that_asks_itself_is_a_failure() -> None:
    """A tier whose model is `tiered` fails, as it would never end."""
    configure(tier("all", "1-10", "tiered"))
    assert "fail" in states(verify(code=1)).values()


def test_a_broken_config_is_a_failure() -> None:
    """A config that can't be read is the only finding."""
    path = configure()
    path.write_text("tiers: [")
    [finding] = verify(code=1).values()
    assert finding["state"] == "fail"
    assert finding["detail"].startswith(str(path))


def test_a_broken_environment_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with a wrong value is a finding, too."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", "perhaps")
    [finding] = verify(code=1).values()
    assert finding["detail"].startswith("FORCE_LOCAL_LLM: found 'perhaps'")


@pytest.mark.usefixtures("one_tier")
def test_a_rollback_without_a_cloud_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """FORCE_LOCAL_LLM=false without a cloud tier is a finding like any other, in JSON, too."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", "false")
    assert "fail" in states(verify(code=1)).values()


def test_a_broken_keys_file_is_a_failure(user_path: Path) -> None:
    """A keys.json that is not JSON is a finding, without a traceback."""
    (user_path / "keys.json").write_text("{")
    failed = [finding for finding in verify(code=1).values() if finding["state"] == "fail"]
    assert any("keys.json" in finding["detail"] for finding in failed)


@pytest.mark.usefixtures("one_tier")
def test_a_log_that_is_a_folder_is_a_failure(logs: Path) -> None:
    """A folder in place of logs.db fails, for root, too."""
    logs.mkdir()
    finding = verify(code=1)["log"]
    assert finding["state"] == "fail"
    assert str(logs) in finding["detail"]


@pytest.mark.usefixtures("one_tier")
def test_a_damaged_log_is_a_failure(logs: Path) -> None:
    """A logs.db that SQLite can't read fails and is not changed."""
    logs.write_text("This is no database, but long enough to be taken for one. " * 10)
    before = logs.read_bytes()
    assert verify(code=1)["log"]["state"] == "fail"
    assert logs.read_bytes() == before


@pytest.mark.usefixtures("one_tier")
def test_a_log_that_is_locked_is_not_to_be_moved(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process has locked the log, the fix is to try again."""
    monkeypatch.setattr("llm_tiered.cli.verify.PATIENCE", 0.01)
    with closing(sqlite3.connect(logs, isolation_level=None)) as database:
        database.execute("create table turns (id)")
        database.execute("begin exclusive")
        finding = verify(code=1)["log"]
    assert "locked" in finding["detail"]
    assert finding["fix"] == "try again in a moment"


@pytest.mark.usefixtures("one_tier", "embedded_model")
def test_writes_nothing(user_path: Path, connections: list[Any]) -> None:
    """The command writes nothing, not even a missing log, and makes no connection."""
    before = sorted(user_path.rglob("*"))
    assert verify()["log"]["state"] == "ok"
    assert sorted(user_path.rglob("*")) == before
    assert connections == []


@pytest.mark.usefixtures("one_tier", "embedded_model")
def test_generate(logs: Path) -> None:
    """With --generate each ready model gives an answer, which is not logged."""
    findings = verify("--generate")
    for part in ("small says", "embedded says"):
        assert findings[part]["state"] == "ok"
        assert findings[part]["detail"] not in ("", "nothing")
    assert not logs.exists()


def test_generate_with_a_model_that_thinks(tmp_path: Path, scripts: Scripts) -> None:
    """It is asked not to think; a model without an answer in so few tokens works, too."""
    folder = build("qwen3", tmp_path / "qwen3", layers=1)
    models = [{"id": "mlx/thinker", "path": str(folder)}]
    configure(tier("all", "1-10", "mlx/thinker"), models=models)
    for script, detail in (
        ("Hello.", "Hello. (asked: Say hello in three words.)"),
        ("", "answered with nothing"),
    ):
        scripts.say(script)
        said = verify("--generate")["all says"]
        assert (said["state"], said["detail"]) == ("ok", detail)
        assert scripts.prompts[-1].endswith("<think>\n\n</think>\n\n")


@pytest.mark.usefixtures("tiny_tiers", "embedded_model")
def test_generate_skips_unavailable_models() -> None:
    """A model that is known not to work is not asked."""
    findings = verify("--generate")
    assert findings[f"cloud ({CLOUD})"]["state"] == "warn"
    assert "cloud says" not in findings


@pytest.mark.usefixtures("one_tier")
def test_generate_downloads_nothing(connections: list[Any]) -> None:
    """A model that is not on disk is reported, and not downloaded for an answer."""
    findings = verify("--generate")
    assert "download" in findings[f"embedded ({EMBEDDED})"]["detail"]
    assert "embedded says" not in findings
    assert connections == []


@pytest.mark.usefixtures("embedded_model")
def test_generate_finds_a_model_that_does_not_load(tiny: Path, one_tier: None) -> None:
    """A model with intact files that MLX can't load fails with --generate."""
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | {"model_type": "nonsense"}))
    assert verify()[SMALL]["state"] == "ok"
    finding = verify("--generate", code=1)["small says"]
    assert finding["state"] == "fail"
    assert "nonsense" in finding["detail"]


def test_a_budget_needs_no_log(user_path: Path) -> None:
    """With logging off, a budget counts all the same, and there is nothing to warn of."""
    configure(budget={"day": 1})
    (user_path / "logs-off").touch()
    assert verify()["log"]["state"] == "ok"


@pytest.mark.usefixtures("tiny_tiers", "key")
def test_generate_counts_what_it_costs(httpx_mock: HTTPXMock) -> None:
    """The answer of a cloud model is in no log, but in the sum of what was spent."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    assert verify("--generate")["cloud says"]["detail"].startswith("Hello (asked: ")
    spent = run_json("savings")["unlogged"]
    assert (spent["dollars"] > "0", spent["unpriced_requests"]) == (True, 0)


@pytest.mark.usefixtures("tiny_tiers", "key")
def test_generate_asks_only_here(user_path: Path, connections: list[Any]) -> None:
    """Where the user stored that prompts stay, the cloud is no tier to verify."""
    (user_path / "model_options.json").write_text('{"tiered": {"local_only": "true"}}')
    findings = verify("--generate")
    assert SMALL in findings
    assert f"cloud ({CLOUD})" not in findings
    assert connections == []


@pytest.mark.usefixtures("key")
def test_option_that_a_model_lacks() -> None:
    """A sampling option of a tier that its model has no name for is told."""
    configure(tier("cloud", "1-10", gemini.MODEL, seed=7, top_p=0.5), keep_warm=0)
    finding = verify()[f"cloud ({gemini.MODEL})"]
    assert finding["detail"] == "ready, without seed: it has no such option"
