"""Percentiles of times that can be added up: histograms whose classes grow with the times.

Each class has the sum of its times besides their number, so that a time that is alone in its class
is exact, as is every time below 256 ms. A percentile is the mean of a class, or lies between two
of them: it is off by less than 1/128 of itself, 0.8%.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Each power of two is divided into 2**_BITS classes.
_BITS = 7

# Times that are exact. Longer ones are off by less than this share of themselves.
EXACT_BELOW = 2 << _BITS
ERROR = 1 / (1 << _BITS)


@dataclass(frozen=True)
class Percentiles:
    """The 50th and the 95th percentile, in milliseconds."""

    p50: float
    p95: float


@dataclass
class Times:
    """A histogram of whole numbers of milliseconds: class → how many, and their sum."""

    classes: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Iterable[int]) -> Times:
        """Return the histogram of these times."""
        times = cls()
        for value in values:
            times.add(value)
        return times

    def __bool__(self) -> bool:
        return bool(self.classes)

    def __len__(self) -> int:
        return sum(number for number, _ in self.classes.values())

    def add(self, value: int) -> None:
        """Add one time."""
        shift = value.bit_length() - _BITS - 1
        place = value if shift <= 0 else (shift << _BITS) + (value >> shift)
        entry = self.classes.get(place)
        if entry is None:
            self.classes[place] = [1, value]
        else:
            entry[0] += 1
            entry[1] += value

    def merge(self, other: Times, sign: int = 1) -> None:
        """Add the times of another histogram; with the sign -1, take them away again."""
        classes = self.classes
        for place, (number, total) in other.classes.items():
            entry = classes.get(place)
            if entry is None:
                classes[place] = [sign * number, sign * total]
                continue
            entry[0] += sign * number
            entry[1] += sign * total
            if not entry[0]:
                del classes[place]

    @property
    def percentiles(self) -> Percentiles | None:
        """The percentiles, interpolated between neighbouring times; None without times."""
        if not self.classes:
            return None
        classes = [self.classes[place] for place in sorted(self.classes)]
        ends = list(accumulate(number for number, _ in classes))

        def at(place: int) -> float:
            number, total = classes[bisect_right(ends, place)]
            return total / number

        def percentile(share: int) -> float:
            place, rest = divmod((ends[-1] - 1) * share, 100)
            return (
                at(place) if not rest else (at(place) * (100 - rest) + at(place + 1) * rest) / 100
            )

        return Percentiles(percentile(50), percentile(95))

    def to_bytes(self) -> bytes:
        """Return it as `from_bytes` reads it, on the same machine."""
        places = array("i", sorted(self.classes))
        pairs = [self.classes[place] for place in places]
        counts, totals = array("i", (each[0] for each in pairs)), array("q", (e[1] for e in pairs))
        return zlib.compress(b"".join(each.tobytes() for each in (places, counts, totals)), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Times:
        """Return what `to_bytes` wrote."""
        parts = memoryview(zlib.decompress(data))
        number = len(parts) // 16
        places, counts = parts[: 4 * number].cast("i"), parts[4 * number : 8 * number].cast("i")
        pairs = map(list, zip(counts, parts[8 * number :].cast("q"), strict=True))
        return cls(dict(zip(places, pairs, strict=True)))
