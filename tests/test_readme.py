"""The README: its commands and its Python run as written. What is visible beside it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import llm
import pytest
import yaml
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.config.reference import config_keys
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.weights import embedded
from llm_tiered.server.running import listen
from tests import gemini
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_httpx import HTTPXMock

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINES = [
    line for language, block in BLOCKS if language == "bash" for line in block.splitlines() if line
]
# Typed beside a running server: a test of the server sends this. A test of the cluster starts one.
LINES = [line for line in LINES if not line.startswith(("curl ", " ")) and "mac-mini" not in line]
LINES = [line for line in LINES if line != "dask scheduler"]
# These install packages, so CI runs them instead of a test.
INSTALLING = [line for line in LINES if ".venv/bin" in line or line.startswith("llm install")]
SESSION = [line for line in LINES if line not in INSTALLING]


@pytest.fixture
def machine(
    user_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    httpx_mock: HTTPXMock,
) -> Iterator[Path]:
    """A machine with tiny local models and a stand-in for Gemini's HTTP; returns its folder."""
    tiny = build("qwen2", tmp_path / "tiny", context=640, eos_bias=36.0)
    shutil.copytree(tiny, embedded.folder())
    models = {"Phi-3.5-mini-instruct-4bit": "phi", "Qwen2.5-7B-Instruct-4bit": "qwen"}
    config = user_path / "tiered" / "config.yaml"
    entries = [
        {"id": model, "path": str(tiny), "aliases": [alias]} for model, alias in models.items()
    ]
    config.write_text(yaml.safe_dump({"models": entries, "keep_warm": 0}))
    httpx_mock.add_response(
        url=gemini.URL, content=gemini.body(*gemini.says("Hello from Gemini")), is_reusable=True
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    ENGINE.close()


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a line of the shell that is a command of llm or datasette; return what it prints."""
    words = shlex.split(line, comments=True)
    with monkeypatch.context() as patch:
        while "=" in words[0]:
            patch.setenv(*words.pop(0).split("=", 1))
        if words[0] == "datasette":
            return browse(words[1:])
        assert words[0] == "llm", f"the README has a command that no test runs: {line}"
        result = CliRunner().invoke(cli, words[1:], input="key\n", catch_exceptions=False)
    assert result.exit_code == 0, f"{line}: {result.output}"
    return result.stdout


def browse(words: list[str]) -> str:
    """Run datasette on the log as the README does, but only for one request."""
    assert words == ["$(llm logs path)"]
    log = str(Path(llm.user_dir()) / "logs.db")
    command = [sys.executable, "-m", "datasette", log, "--get", "/logs/turns.json"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.httpx_mock(assert_all_responses_were_requested=False)
def test_commands(machine: Path, user_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the README works, in its order."""
    # The page itself is tested in tests/dashboard; here the server would never end.
    monkeypatch.setattr("datasette.cli.cli.main", lambda *_, **__: None)
    monkeypatch.setattr("click.launch", lambda _: None)
    monkeypatch.setattr("llm_tiered.server.running.listen", lambda host, _: listen(host, 0))
    monkeypatch.setattr("llm_tiered.server.running.run", lambda *_: None)
    monkeypatch.setattr("llm_tiered.server.background.start", lambda *_: None)
    (machine / "prompts.jsonl").write_text('{"prompt": "Hello", "complexity": 2}\n')
    row = '{"prompt": "Hello", "contains": "Hello", "task": "greeting"}\n'
    (machine / "suite.jsonl").write_text(row)
    assert SESSION
    for line in SESSION:
        if line == "llm tiered config init":
            config = user_path / "tiered" / "config.yaml"
            config.rename(machine / "before.yaml")
            run(line, monkeypatch)
            (machine / "before.yaml").replace(config)
        else:
            run(line, monkeypatch)


@pytest.mark.httpx_mock(assert_all_responses_were_requested=False)
@pytest.mark.usefixtures("machine")
def test_python(capsys: pytest.CaptureFixture[str]) -> None:
    """The Python of the README runs."""
    [block] = [block for _, block in BLOCKS if block.startswith("import llm\n")]
    exec(compile(block, "README.md", "exec"), {})
    assert "mlx/Qwen2.5-7B-Instruct-4bit" in capsys.readouterr().out


def test_ci_installs_as_the_readme_says() -> None:
    """CI runs the commands of the README that install something, word for word."""
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8").splitlines()
    script = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    lines = {line.strip() for line in workflow}
    # The script has an environment of its own, and prints less.
    lines |= {".venv/bin/" + line.removesuffix(" --quiet") for line in script}
    assert INSTALLING
    assert [line for line in INSTALLING if line not in lines] == []


def test_table_of_config_keys() -> None:
    """The README has a row for each key of the config."""
    rows = re.findall(r"^\| `([^`]+)` \|", README, re.MULTILINE)
    assert [key.key for key in config_keys() if key.key not in rows] == []


def test_headings_that_links_point_to() -> None:
    """Every link within the README points to one of its headings."""
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#([^)]+)\)", README)
    assert links
    assert set(links) <= anchors


def test_top_level() -> None:
    """Apart from dotfiles and what git ignores, only these are at the top level."""
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    visible = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".")
        and not any(fnmatch(path.name, pattern.rstrip("/")) for pattern in ignored)
    }
    expected = {"llm_tiered", "tests", "findings", "pyproject.toml", "README.md", "LICENSE"}
    assert visible == expected
