"""Measure the CPU time that a batch adds to its models: `python -m tests.batch.overhead`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import yaml
from click.testing import CliRunner
from llm.cli import cli

from tests.batch.echo import OTHER, config, registered

ROWS = 10_000


def main() -> None:
    """Print CPU milliseconds a prompt, for a model of its own and for `tiered`, without logging."""
    with tempfile.TemporaryDirectory() as folder, registered():
        os.environ["LLM_USER_PATH"] = folder
        home = Path(folder)
        (home / "tiered").mkdir()
        (home / "tiered" / "config.yaml").write_text(yaml.safe_dump(config()))
        rows = home / "rows.jsonl"
        with rows.open("w") as file:
            for number in range(ROWS):
                file.write(json.dumps({"prompt": f"Prompt {number}", "complexity": 2}) + "\n")
        for model in (OTHER, "tiered"):
            output = home / f"{model.replace('/', '-')}.jsonl"
            for label in ("answered", "skipped as done"):
                started = time.process_time()
                arguments = ["tiered", "batch", str(rows), "-m", model, "-o", str(output), "-n"]
                result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
                seconds = time.process_time() - started
                assert result.exit_code == 0, result.output
                sys.stdout.write(f"{model}, {label}: {1000 * seconds / ROWS:.3f} ms a prompt\n")


if __name__ == "__main__":
    main()
