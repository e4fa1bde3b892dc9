"""The README: each of its commands is run as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import llm
import pytest
import yaml
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.weights import embedded
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
# These install things: CI runs them, word for word.
INSTALLING = [line for line in LINES if ".venv/bin" in line]
SESSION = [line for line in LINES if line not in INSTALLING]


@pytest.fixture
def machine(
    user_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    httpx_mock: HTTPXMock,
) -> Iterator[Path]:
    """A machine whose local models are tiny ones, with Gemini's HTTP answered; gives its folder."""
    tiny = build("qwen2", tmp_path / "tiny", context=640, eos_bias=36.0)
    shutil.copytree(tiny, embedded.folder())
    models = {"Phi-3.5-mini-instruct-4bit": "phi", "Qwen2.5-7B-Instruct-4bit": "qwen"}
    config = user_path / "tiered" / "config.yaml"
    entries = [
        {"id": model, "path": str(tiny), "aliases": [alias]} for model, alias in models.items()
    ]
    config.write_text(yaml.safe_dump({"models": entries}))
    httpx_mock.add_response(
        url=gemini.URL, content=gemini.body(*gemini.says("Hello from Gemini")), is_reusable=True
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    ENGINE.close()


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a line of the shell that is a command of llm or datasette; give what it printed."""
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
    """Run datasette on the log as the README says, for one page instead of for ever."""
    assert words == ["$(llm logs path)"]
    log = str(Path(llm.user_dir()) / "logs.db")
    command = [sys.executable, "-m", "datasette", log, "--get", "/logs/turns.json"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.httpx_mock(assert_all_responses_were_requested=False)
def test_commands(machine: Path, user_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the README works, in the order in which they stand."""
    # The page itself is opened in tests/dashboard; here, nobody is there to end the server.
    monkeypatch.setattr("datasette.cli.cli.main", lambda *_, **__: None)
    monkeypatch.setattr("click.launch", lambda _: None)
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
    """CI runs what the README's two first commands run."""
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8")
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    first, second = INSTALLING
    assert first in workflow
    assert second.endswith("/python -m pytest")
    assert "python -m pytest" in script
