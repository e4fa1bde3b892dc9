"""The import time that the plugin adds to the start of `llm`, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys

from ..errors import TieredError
from .figures import Figure, Part

# Every command imports the plugin. Commands that use models also make it register its own. The
# list of models asks `tiered` what its tiers support, which needs the config.
COMMANDS = {
    "start": ("--version",),
    "register": ("aliases", "list"),
    "models list": ("models", "list"),
}

LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|( +)([\w.]+)")
OURS, EXCLUDED = "llm_tiered", "llm_gemini"


def start(runs: int) -> list[Figure]:
    """Measure the milliseconds of imports for the plugin, next to all imports of llm."""
    figures = []
    _trace(("models", "list"))  # Python may have to compile modules the first time
    for name, arguments in COMMANDS.items():
        traces = [_trace(arguments) for _ in range(runs)]
        pairs = [(ours(trace) / 1000, everything(trace) / 1000) for trace in traces]
        note = f"llm {' '.join(arguments)}"
        figures.append(Part("start").paired(name, "ms", pairs, "all imports", note))
    return figures


def _trace(arguments: tuple[str, ...]) -> str:
    done = subprocess.run(  # noqa: S603 - this Python, and fixed arguments
        [sys.executable, "-X", "importtime", "-m", "llm", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last_line = done.stderr.strip().splitlines()[-1:]
        raise TieredError(f"llm {' '.join(arguments)} fails: {' '.join(last_line)}")
    return done.stderr


def everything(trace: str) -> int:
    """Return the microseconds of all imports."""
    return sum(int(own) for own, *_ in LINE.findall(trace))


def ours(trace: str) -> int:
    """Return the microseconds of the plugin's modules and of all imports inside them.

    A module's line follows those of its own imports, which are indented by two more spaces.
    llm-gemini is excluded, which llm would import anyway.
    """
    total = 0
    stack: list[tuple[int, bool]] = []  # depth, and whether it counts
    for _, cumulative, indent, name in reversed(LINE.findall(trace)):
        depth = len(indent)
        while stack and stack[-1][0] >= depth:
            stack.pop()
        counted = bool(stack) and stack[-1][1]
        package = name.partition(".")[0]
        if package == EXCLUDED and counted:
            total -= int(cumulative)
        elif package == OURS and not counted:
            total += int(cumulative)
        stack.append((depth, package != EXCLUDED and (counted or package == OURS)))
    return total
