"""How short of memory a machine is, from what its kernel says, and which models are let go."""

from __future__ import annotations

import ctypes
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.process import pressure
from llm_tiered.mlx.process.pressure import GRACE, Pressure

if TYPE_CHECKING:
    from collections.abc import Callable

GB = 10**9
RANK = {None: 0, "warning": 1, "critical": 2}


def meminfo(total: float, available: float) -> str:
    """The text of /proc/meminfo, from gigabytes."""
    sizes = {"MemTotal": total, "MemFree": available / 2, "MemAvailable": available}
    lines = [f"{name}:{round(size * GB / 1024):>16} kB" for name, size in sizes.items()]
    return "\n".join([*lines, "HugePages_Total:       0", "DirectMap4k:      131072 kB"])


def stalls(some: float = 0, full: float = 0) -> str:
    """The text of /proc/pressure/memory, from percentages of the last ten seconds."""
    return (
        f"some avg10={some:.2f} avg60=99.00 avg300=99.00 total=1234\n"
        f"full avg10={full:.2f} avg60=99.00 avg300=99.00 total=1234"
    )


def group(used: float, limit: float | None, *, files: float = 0, waits: str = "") -> dict[str, str]:
    """The files of a control group, from gigabytes; `files` of what is used are cached files."""
    return {
        "memory.max": "max" if limit is None else str(round(limit * GB)),
        "memory.high": "max",
        "memory.current": str(round(used * GB)),
        "memory.stat": f"anon 1\ninactive_file {round(files * GB / 2)}\n"
        f"active_file {round(files * GB / 2)}\nslab_reclaimable 0",
        "memory.pressure": waits,
    }


def level(found: Pressure | None) -> str | None:
    """The level alone."""
    return found.level if found else None


@pytest.mark.parametrize(
    ("total", "available", "expected"),
    [
        (16, 8, None),
        (16, 1.7, None),
        (16, 1.5, "warning"),
        (16, 0.7, "critical"),
        (128, 4.1, None),
        (128, 3.9, "warning"),
        (128, 1.9, "critical"),
    ],
)
def test_available(total: float, available: float, expected: str | None) -> None:
    """Memory is short below a tenth of it, or 4 GB, and exhausted at half of that."""
    found = pressure.of_machine(meminfo(total, available), stalls())
    assert level(found) == expected


def test_reason() -> None:
    """The reason says what was left."""
    reason = "1.5 GB of the 16.0 GB of memory were available"
    assert pressure.of_machine(meminfo(16, 1.5), stalls()) == Pressure("warning", reason)
    reason = "all programs waited for memory 12% of the time"
    assert pressure.of_machine(meminfo(16, 2), stalls(30, 12)) == Pressure("critical", reason)


@pytest.mark.parametrize(
    ("some", "full", "expected"),
    [(9, 0, None), (10, 0, "warning"), (90, 9, "warning"), (90, 10, "critical")],
)
def test_stalls(some: float, full: float, expected: str | None) -> None:
    """Programs that wait for memory count, but only where less than a quarter is available."""
    assert level(pressure.of_machine(meminfo(16, 3), stalls(some, full))) == expected
    assert pressure.of_machine(meminfo(16, 5), stalls(some, full)) is None


def test_worse_is_never_better() -> None:
    """With less memory, or longer waits, the level never falls."""
    wrong = []
    steps = list(product([10, 3.5, 2, 1.5, 1, 0.5, 0], [0, 5, 10, 50], [0, 5, 10, 50]))
    judged = {
        (available, some, full): level(
            pressure.of_machine(meminfo(16, available), stalls(some, full))
        )
        for available, some, full in steps
    }
    for one, other in product(steps, steps):
        worse = other[0] <= one[0] and other[1] >= one[1] and other[2] >= one[2]
        if worse and RANK[judged[other]] < RANK[judged[one]]:
            wrong.append((one, other))
    assert wrong == []


@pytest.mark.parametrize("text", ["", "MemTotal: 16 kB", "MemAvailable: 1 kB", "nonsense", ":"])
def test_no_numbers(text: str) -> None:
    """A kernel that does not tell is no reason to let a model go."""
    assert pressure.of_machine(text, "some") is None


def test_container() -> None:
    """The limit of a container counts; what its cached files take does not."""
    assert pressure.of_group(group(3, 4)) is None
    assert level(pressure.of_group(group(3.7, 4))) == "warning"
    assert level(pressure.of_group(group(3.9, 4))) == "critical"
    assert pressure.of_group(group(4, 4, files=2)) is None
    assert pressure.of_group(group(100, None)) is None
    assert level(pressure.of_group(group(3.5, 4, waits=stalls(20)))) == "warning"
    found = pressure.of_group(group(3.7, 4))
    assert found == Pressure(
        "warning", "300 MB of the 4.0 GB of memory that this container may use were available"
    )
    softer = group(3.7, None) | {"memory.high": str(4 * GB)}
    assert pressure.of_group(softer) == found


def test_folders_of_groups() -> None:
    """The groups above ours have limits, too; the first version of groups is not asked."""
    text = "4:memory:/one\n0::/user.slice/app.service\n"
    folders = [str(folder) for folder in pressure.group_folders(text)]
    top = "/sys/fs/cgroup"
    assert folders == [top, f"{top}/user.slice", f"{top}/user.slice/app.service"]
    assert [str(folder) for folder in pressure.group_folders("0::/\n")] == [top]
    assert list(pressure.group_folders("4:memory:/one\n")) == []


def machine(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    """Let these be all files of the kernel."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(pressure, "_text", lambda path: files.get(Path(path).as_posix(), ""))


def test_read_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst of the machine and its groups counts."""
    files = {"/proc/meminfo": meminfo(16, 1.5), "/proc/self/cgroup": "0::/a\n"}
    machine(monkeypatch, files)
    assert level(pressure.read()) == "warning"
    files |= {f"/sys/fs/cgroup/a/{name}": text for name, text in group(3.9, 4).items()}
    assert level(pressure.read()) == "critical"
    files["/proc/meminfo"] = meminfo(16, 8)
    assert level(pressure.read()) == "critical"
    files["/sys/fs/cgroup/a/memory.max"] = "max"
    assert pressure.read() is None


def test_read_here() -> None:
    """The files of this machine can be read, whatever they say."""
    assert level(pressure.read()) in RANK


def test_mac() -> None:
    """The levels of macOS are those of its header."""
    levels = [level(pressure.of_mac(number)) for number in (None, 0, 1, 2, 4, 8)]
    assert levels == [None, None, None, "warning", "critical", None]


class Kernel:
    """The part of macOS' C library that gives a kernel's numbers."""

    def __init__(self, numbers: dict[bytes, int]) -> None:
        def read(name: bytes, value: Any, size: Any, *_: Any) -> int:
            if name not in numbers:
                return -1
            assert size._obj.value == ctypes.sizeof(ctypes.c_int)
            value._obj.value = numbers[name]
            return 0

        self.sysctlbyname: Callable[..., int] = read


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [({b"kern.memorystatus_vm_pressure_level": 4}, "critical"), ({}, None)],
)
def test_read_mac(
    numbers: dict[bytes, int], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Mac the kernel is asked for its level."""
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Kernel(numbers))
    assert level(pressure.read()) == expected


def test_least_recently_used_first() -> None:
    """One idle model goes at a time while memory is short, and all when it has almost run out."""
    idle = {"oldest": GRACE + 9, "older": GRACE, "latest": 1.0}
    short, exhausted = Pressure("warning", ""), Pressure("critical", "")
    assert pressure.to_let_go(short, idle) == ["oldest"]
    assert pressure.to_let_go(short, {"latest": GRACE - 1}) == []
    assert pressure.to_let_go(exhausted, idle) == ["oldest", "older", "latest"]
    assert pressure.to_let_go(exhausted, {}) == []
