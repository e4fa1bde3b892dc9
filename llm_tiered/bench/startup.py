"""What the plugin adds to the start of `llm`, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys

from ..errors import TieredError
from .figures import Figure, Measured

# Every command imports the plugin; those that use models make it register its own; the list of
# models asks `tiered` what its tiers can do, and that is in the config.
COMMANDS = {
    "start": ("--version",),
    "register": ("aliases", "list"),
    "models list": ("models", "list"),
}

LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|( +)([\w.]+)")
OURS, APART = "llm_tiered", "llm_gemini"


def start(runs: int) -> list[Figure]:
    """Milliseconds of importing the plugin and what only it needs, and of all imports of llm."""
    figures = []
    _trace(("models", "list"))  # the first time, Python may have to compile
    for name, arguments in COMMANDS.items():
        traces = [_trace(arguments) for _ in range(runs)]
        pairs = [(ours(trace) / 1000, everything(trace) / 1000) for trace in traces]
        note = f"llm {' '.join(arguments)}"
        figures.append(Measured("start").beside(name, "ms", pairs, "all imports", note))
    return figures


def _trace(arguments: tuple[str, ...]) -> str:
    done = subprocess.run(  # noqa: S603 - this Python, and fixed arguments
        [sys.executable, "-X", "importtime", "-m", "llm", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise TieredError(f"llm {' '.join(arguments)} fails: {' '.join(last)}")
    return done.stderr


def everything(trace: str) -> int:
    """Microseconds of all imports."""
    return sum(int(own) for own, *_ in LINE.findall(trace))


def ours(trace: str) -> int:
    """Microseconds of the plugin's modules and all that is imported through them.

    A module's line comes after those of what it imports, which are indented by two more.
    """
    total = 0
    inside: list[tuple[int, bool]] = []  # depth, and whether it counts
    for _, cumulative, indent, name in reversed(LINE.findall(trace)):
        depth = len(indent)
        while inside and inside[-1][0] >= depth:
            inside.pop()
        counted = bool(inside) and inside[-1][1]
        package = name.partition(".")[0]
        if package == APART and counted:
            total -= int(cumulative)
        elif package == OURS and not counted:
            total += int(cumulative)
        inside.append((depth, package != APART and (counted or package == OURS)))
    return total
