"""`llm …` with the model that only waits in this process: `python -m tests.cluster.alone`."""

from __future__ import annotations

import sys

from llm_tiered.mlx.process import choice
from tests.cluster.waiting import WaitingEngine

if __name__ == "__main__":
    from llm.cli import cli

    # It answers as the real one does.
    vars(choice)["ENGINE"] = WaitingEngine()
    cli(sys.argv[1:])
