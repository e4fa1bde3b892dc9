from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import parse

import llm
import pytest

from llm_tiered.bench import masks, pairs, startup, synthetic
from llm_tiered.bench.measure import OF_THE_PLUGIN, PARTS
from llm_tiered.mlx.engine.engine import ENGINE
from tests.bench.streaming import replace_servers
from tests.bench.test_startup import TRACE
from tests.bench.test_synthetic import shrunken
from tests.cli.commands import EMBEDDED, configure, cut_short, refused, run, run_json, tier
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

SHORT = ("--runs", "1", "--tokens", "4", "--batch", "2")
FIGURES = {
    "load": ["load", "peak_memory"],
    "raw": ["first_token", "prompt", "generation", "processor"],
    "batch": ["batch"],
    "schema": ["schema", "schema_processor", "mask_mean", "mask_p99"],
    "schemas": ["schemas_passes", "schemas"],
    "copying": ["copying_passes", "copying"],
    "chat": ["turn_2", "turn_3"],
    "serve": ["serve", "serve_first_token", "serve_slowest"],
    "switch": ["switch", "exchange", "exchange_memory"],
    "overhead": ["tiered"],
    "endpoints": ["endpoint_first_token", "endpoint_token", "endpoint_rows"],
    "start": ["start", "register", "models list"],
}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose context is long enough for a chat; read only."""
    return build("qwen2", tmp_path_factory.mktemp("bench") / "tiny", context=4096)


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit the rounds for small differences to those of the other parts."""
    monkeypatch.setattr(pairs, "MORE_ROUNDS", 1)


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the shapes of the random models."""
    for name in synthetic.SHAPES:
        # Without Metal, half the precision takes many times as long.
        shape = shrunken(name) | {"num_hidden_layers": 1, "torch_dtype": "float32"}
        monkeypatch.setitem(synthetic.SHAPES, name, shape)


def names(figures: list[dict[str, Any]], model: str | None) -> list[tuple[str, str]]:
    """The figures of a model, by part."""
    return [(one["part"], one["name"]) for one in figures if one["model"] == model]


def test_measures_everything(
    tiny_tiers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part has its figures, as JSON and in the chart, and progress goes to stderr.

    But for the start of llm, which test_plugin_only measures, and what needs real servers and
    engines: see tests/bench.
    """
    monkeypatch.setattr(masks, "WIDE", 2048)
    replace_servers(monkeypatch)
    plot = tmp_path / "plot.svg"
    parts = [part for part in PARTS if part not in {"start", "warm", "endpoints"}]
    only = ("--only", ",".join(parts))
    result = run("bench", "wee", *SHORT, *only, "--plot", str(plot), "--json")
    facts = json.loads(result.stdout)
    assert set(facts) == {"versions", "device", "settings", "figures", "failures"}
    assert facts["failures"] == []
    assert set(facts["versions"]) == {"llm-tiered", "llm", "mlx", "mlx-lm", "python"}
    assert facts["settings"] == {"parts": parts, "runs": 1, "tokens": 4, "batch": 2}
    of_model = [part for part in FIGURES if part not in OF_THE_PLUGIN]
    assert names(facts["figures"], "mlx/tiny") == [
        (part, name) for part in of_model for name in FIGURES[part]
    ]
    assert names(facts["figures"], "mlx/synthetic-tiny") == [
        ("serve", name) for name in FIGURES["serve"]
    ]
    assert set(names(facts["figures"], None)) == {
        *(("schema", name) for name in ("mask_mean", "mask_p99")),
        ("overhead", "tiered"),
    }
    for figure in facts["figures"]:
        assert set(figure) == {
            *("part", "name", "unit", "value", "model", "note"),
            *("against", "baseline", "ratio", "quartiles"),
        }
    assert parse(plot).getroot().tag.endswith("svg")
    assert "mlx/tiny: chat" in result.stderr.splitlines()


def test_leaves_nothing_behind(tiny_tiers: Path, user_path: Path) -> None:
    """No prompt ends up in the user's log, no model stays in memory, and no setting changes."""
    before = dict(os.environ)
    run("bench", "wee", *SHORT, "--only", "load,overhead")
    assert [path.name for path in user_path.iterdir()] == ["tiered"]
    assert ENGINE.resident() == {}
    assert dict(os.environ) == before
    assert llm.user_dir() == user_path


def test_serve(tiny_tiers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model is asked by a batch of clients, and a tiny one by a crowd."""
    replace_servers(monkeypatch)
    facts = run_json("bench", "wee", *SHORT, "--only", "serve")
    assert names(facts["figures"], "mlx/tiny") == [("serve", name) for name in FIGURES["serve"]]
    assert [figure["note"] for figure in facts["figures"]] == ["2 clients"] * 3 + ["16 clients"] * 3


def test_table(tiny_tiers: Path) -> None:
    """Without --json there is a table with a line for each figure, with units and ratios."""
    head, *lines = run("bench", "wee", *SHORT, "--only", "raw").stdout.splitlines()
    assert head.split() == ["model", "figure", "here", "against", "ratio"]
    assert [line.split("  ")[0] for line in lines] == ["mlx/tiny"] * 4
    assert "decode" in lines[2]
    assert lines[2].count("tokens/s") == 2
    assert "mlx_lm" in lines[2]


# Models


def test_default_models(
    tiny: Path, embedded_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without names, all local tiers on disk and the embedded model are measured."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    damaged = build("phi3", tmp_path / "damaged")
    cut_short(damaged)
    configure(
        tier("a", "1-3", "mlx/tiny"),
        tier("b", "4-6", "mlx/damaged"),
        tier("c", "7-9", "mlx/Qwen3-0.6B-4bit"),
        tier("d", "10", "gemini/gemini-flash-latest"),
        models=[{"id": "mlx/tiny", "path": str(tiny)}, {"id": "mlx/damaged", "path": str(damaged)}],
    )
    result = run("bench", *SHORT, "--only", "load", "--json")
    figures = json.loads(result.stdout)["figures"]
    assert {figure["model"] for figure in figures} == {"mlx/tiny", EMBEDDED}
    left_out = [line.split(": ")[0] for line in result.stderr.splitlines() if "left out" in line]
    assert sorted(left_out) == ["mlx/Qwen3-0.6B-4bit", "mlx/damaged"]


def test_names_and_their_order(tiny_tiers: Path) -> None:
    """The named models are measured, by id or alias, and switching between them too."""
    llm.set_alias("mine", "mlx/tiny")
    figures = run_json("bench", "mlx/larger", "mine", *SHORT, "--only", "switch")["figures"]
    assert {figure["model"] for figure in figures} == {"mlx/larger"}
    assert all("mlx/tiny" in figure["note"] for figure in figures)


def test_synthetic(shapes: None) -> None:
    """Random models with real shapes are measured instead of others."""
    figures = run_json(
        "bench", "--synthetic", "phi-3.5-mini", "--synthetic", "qwen2.5-7b", *SHORT, "--only", "raw"
    )["figures"]
    assert [figure["model"] for figure in figures if figure["name"] == "generation"] == [
        "mlx/synthetic-phi-3.5-mini",
        "mlx/synthetic-qwen2.5-7b",
    ]


def test_plugin_only(no_mlx: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring the start of llm needs no model and no MLX."""
    # tests/bench/test_startup.py starts the real one.
    monkeypatch.setattr(startup, "_trace", lambda _: TRACE)
    figures = run_json("bench", "--only", "start", *SHORT)["figures"]
    assert names(figures, None) == [("start", name) for name in FIGURES["start"]]


def test_overhead_needs_no_model_of_the_user(user_path: Path) -> None:
    """The overhead of `tiered` is measured with a random model, so nothing is downloaded."""
    figures = run_json("bench", "--only", "overhead", *SHORT)["figures"]
    assert names(figures, None) == [("overhead", "tiered")]


# Errors


def test_an_unknown_model_is_reported() -> None:
    """An unknown model is an error before anything is measured."""
    assert refused("bench", "gpt-4o") == "there is no local model 'gpt-4o' (llm tiered models)"


def test_unknown_parts_are_reported() -> None:
    """An unknown part is an error with the known ones, and the exit code is 2."""
    result = run("bench", "--only", "raw,speed,,chat", code=2)
    assert "found 'speed, '" in result.stderr
    assert ", ".join(PARTS) in result.stderr


@pytest.mark.parametrize("option", ["--runs", "--tokens", "--batch"])
def test_numbers_have_a_minimum(option: str) -> None:
    """Numbers of runs, tokens and prompts have a minimum."""
    assert option in run("bench", option, "0", code=2).stderr


def test_a_plot_without_a_folder_is_reported(tmp_path: Path) -> None:
    """A chart in a folder that does not exist is an error before anything is measured."""
    message = refused("bench", "--plot", str(tmp_path / "no" / "plot.svg"))
    assert message == f"there is no folder {tmp_path / 'no'} for plot.svg"


def test_a_plot_that_can_not_be_written_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures are printed before the chart is written, so an error does not lose them."""
    monkeypatch.setattr(startup, "_trace", lambda _: TRACE)
    plot = tmp_path / "loop.svg"
    plot.symlink_to(plot)
    result = run("bench", "--only", "start", *SHORT, "--plot", str(plot), code=1)
    assert "register" in result.stdout
    [line] = result.stderr.splitlines()[-1:]
    assert line.startswith(f"Error: {plot} can't be written: ")


def test_without_mlx(tiny_tiers: Path, no_mlx: None) -> None:
    """Without MLX, the error says what is missing."""
    assert "MLX" in refused("bench", "wee", "--only", "raw")


def test_a_failing_part_does_not_stop_the_others(tiny_tiers: Path, tiny: Path) -> None:
    """A part that fails is reported, the others are measured, and the exit code is 1."""
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    result = run("bench", "wee", *SHORT, "--only", "load,chat", "--json", code=1)
    facts = json.loads(result.stdout)
    assert names(facts["figures"], "mlx/tiny") == [("load", name) for name in FIGURES["load"]]
    [failure] = facts["failures"]
    assert (failure["part"], failure["model"]) == ("chat", "mlx/tiny")
    assert "the context of mlx/tiny holds 64" in failure["error"]
    assert f"mlx/tiny: chat failed: {failure['error']}" in result.stderr.splitlines()


def test_a_damaged_model_is_reported(tiny_tiers: Path, tiny: Path) -> None:
    """A model with damaged files is reported and does not stop the others."""
    cut_short(tiny)
    facts = json.loads(run("bench", "wee", *SHORT, "--only", "load", "--json", code=1).stdout)
    assert facts["figures"] == []
    assert "damaged" in facts["failures"][0]["error"]
