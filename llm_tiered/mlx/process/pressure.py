"""Whether the machine is short of memory, and which idle models are let go then.

Linux says how much memory is available, and how long programs wait for it (pressure stall
information, PSI), for the machine and for each control group with a limit, as containers have it.
macOS has a level of its own.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...wording import gigabytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The shares of the memory that are still available when it is short, and when it has almost run
# out: those at which earlyoom ends programs, by asking them and by force.
SHORT, EXHAUSTED = 0.10, 0.05

# On a large machine, that much is enough whatever its share, in bytes.
ENOUGH = 4 * 10**9

# The percentage of the last ten seconds that some, or all, programs waited for memory: those that
# low-memory-monitor takes for medium and critical.
STALLED = 10.0

# As long as a larger share than this is available, programs that wait for memory have reached the
# limit of their own control group, and letting go of a model would not help them.
PLENTY = 0.25

# Seconds after its last answer during which a model stays in memory unless that has almost run
# out: somebody may be typing the next prompt.
GRACE = 30.0

# The levels of `kern.memorystatus_vm_pressure_level`, as in <dispatch/source.h>.
_MAC_WARNING, _MAC_CRITICAL = 2, 4

_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Pressure:
    """The machine is short of memory; `reason` says what that was seen from."""

    level: Literal["warning", "critical"]
    reason: str


def read() -> Pressure | None:
    """Return how short of memory the machine is, or None if it is not, or does not tell."""
    if sys.platform == "darwin":
        return of_mac(_sysctl("kern.memorystatus_vm_pressure_level"))
    machine = of_machine(_text(Path("/proc/meminfo")), _text(Path("/proc/pressure/memory")))
    groups = [_of_folder(folder) for folder in group_folders(_text(Path("/proc/self/cgroup")))]
    found = [each for each in (machine, *groups) if each]
    return min(found, key=lambda each: each.level != "critical", default=None)


def to_let_go(pressure: Pressure, idle: Mapping[str, float]) -> list[str]:
    """Return the models to let go, of those that are idle.

    They come with the seconds since their last use, the least recently used first. If memory has
    almost run out all of them go, otherwise one.
    """
    if pressure.level == "critical":
        return list(idle)
    return [name for name, seconds in idle.items() if seconds >= GRACE][:1]


def of_mac(level: int | None) -> Pressure | None:
    """Return what the level of macOS means."""
    if level == _MAC_CRITICAL:
        return Pressure("critical", "macOS reports critical memory pressure")
    if level == _MAC_WARNING:
        return Pressure("warning", "macOS reports memory pressure")
    return None


def of_machine(meminfo: str, stalls: str) -> Pressure | None:
    """Return what /proc/meminfo and /proc/pressure/memory mean."""
    sizes = _numbers(meminfo.replace(":", " "))
    total, available = sizes.get("MemTotal", 0), sizes.get("MemAvailable")
    if available is None or not total:
        return None
    return _judge(total * 1024, available * 1024, stalls)


def of_group(files: Mapping[str, str]) -> Pressure | None:
    """Return what the files of a control group mean, by their names; missing ones are empty."""
    limits = [files[name] for name in ("memory.max", "memory.high") if files[name].isdecimal()]
    if not limits or not files["memory.current"].isdecimal():
        return None
    limit = min(map(int, limits))
    stat = _numbers(files["memory.stat"])
    # What the kernel gives back by itself as soon as somebody needs memory.
    kept = sum(stat.get(name, 0) for name in ("inactive_file", "active_file", "slab_reclaimable"))
    available = max(limit - int(files["memory.current"]) + kept, 0)
    return _judge(limit, available, files["memory.pressure"], " that this container may use")


def group_folders(text: str) -> Iterator[Path]:
    """Yield the folders of the control groups in /proc/self/cgroup, the outermost first.

    Only the second version has them. In a container the outermost is its own, and the others may
    be those of the host, which are not there.
    """
    for line in text.splitlines():
        if line.startswith("0::"):
            folder = _GROUPS
            yield folder
            for part in line.removeprefix("0::/").split("/"):
                if part not in ("", ".."):
                    folder /= part
                    yield folder


def _of_folder(folder: Path) -> Pressure | None:
    names = ("max", "high", "current", "stat", "pressure")
    return of_group({f"memory.{name}": _text(folder / f"memory.{name}") for name in names})


def _judge(total: int, available: int, stalls: str, where: str = "") -> Pressure | None:
    """Return what the bytes and the stalls mean."""
    left = f"{gigabytes(available)} of the {gigabytes(total)} of memory{where} were available"
    if available < min(EXHAUSTED * total, ENOUGH / 2):
        return Pressure("critical", left)
    if available < PLENTY * total:
        waited = "programs waited for memory {:.0f}% of the time"
        if (percent := _waited(stalls, "full")) >= STALLED:
            return Pressure("critical", f"all {waited.format(percent)}")
        if (percent := _waited(stalls, "some")) >= STALLED:
            return Pressure("warning", waited.format(percent))
    return Pressure("warning", left) if available < min(SHORT * total, ENOUGH) else None


def _waited(stalls: str, who: str) -> float:
    """Return the percentage of the last ten seconds that `some` or all (`full`) programs waited."""
    match = re.search(rf"^{who} avg10=([0-9.]+)", stalls, re.MULTILINE)
    return float(match[1]) if match else 0.0


def _numbers(text: str) -> dict[str, int]:
    """Return the numbers of lines that begin with a name and a number."""
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeError):
        return ""


def _sysctl(name: str) -> int | None:
    """Return a whole number of macOS' kernel, or None if it has none of that name."""
    import ctypes

    value, size = ctypes.c_int(), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    read_by_name = getattr(ctypes.CDLL(None), "sysctlbyname", None)
    if read_by_name is None:
        return None
    failed = read_by_name(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
    return None if failed else value.value
