"""Print what count.py and counter.c logged on one emulated processor, and compare it with the limits.

usage: report.py CPU LOG
Prints for each engine the most that one of the photos took:
    instructions CPU ENGINE MILLIONS
    traffic CPU ENGINE MB_READ MB_WRITTEN
Exits with 1 and a sentence for each limit that is exceeded, each engine of this project that was not counted, and each
inference that the caches did not see wholly.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

XNNPACK, KERNELS, ONNX_RUNTIME = "edge-classifier-xnnpack", "edge-classifier-kernels", "edge-classifier-onnxruntime"


class Limit(NamedTuple):
    """The most that one inference may take."""

    millions: float
    megabytes: float | None = None  # read and written


#: Of the engines of this project. XNNPACK and ONNX Runtime were measured to take a hundredth less.
LIMITS = {
    "cortex-a72": {XNNPACK: Limit(478.5), KERNELS: Limit(227, 60), ONNX_RUNTIME: Limit(544.4)},
    "neoverse-n1": {XNNPACK: Limit(162.3), KERNELS: Limit(147, 20), ONNX_RUNTIME: Limit(188.4)},
}
BELOW_EVERY_OTHER = KERNELS  # takes fewer instructions than each engine that is not this project's
OURS = "edge-classifier-"
ELSEWHERE = 1000  # accesses by threads that wake up and find nothing to do


class Count(NamedTuple):
    """What one inference took."""

    instructions: int
    read: int  # bytes
    written: int
    elsewhere: int  # accesses to memory by other threads, which the caches did not see


def counts_of(lines: Iterable[str]) -> dict[str, list[Count]]:
    """The counts of each engine, one for each photo, of a log; an engine that did not finish is left out."""
    counts: dict[str, list[Count]] = {}
    engine, found = "", list[Count]()
    for line in lines:
        first, *rest = line.split() or [""]
        if first == "engine":
            engine, found = rest[0], []
        elif first == "COUNTED" and rest[0] != "0":  # 0 is the warm-up
            found.append(Count(*map(int, rest[1:])))
        elif first == "agreement" and found:
            counts[engine] = found
    return counts


def printed(cpu: str, counts: dict[str, list[Count]]) -> Iterator[str]:
    """The lines for each engine."""
    for engine, found in counts.items():
        yield f"instructions {cpu} {engine} {_millions(found):.2f}"
        most = max(found, key=lambda count: count.read + count.written)
        yield f"traffic {cpu} {engine} {most.read / 1e6:.1f} {most.written / 1e6:.1f}"


def problems(cpu: str, counts: dict[str, list[Count]]) -> Iterator[str]:
    """A sentence for everything that is not as promised."""
    for engine, limit in LIMITS[cpu].items():
        if engine not in counts:
            yield f"{engine} was not counted on {cpu}."
            continue
        if _millions(counts[engine]) > limit.millions:
            yield f"{engine} needs more than {limit.millions} million instructions on {cpu}."
        if limit.megabytes is not None and _megabytes(counts[engine]) > limit.megabytes:
            yield f"{engine} moves more than {limit.megabytes} MB on {cpu}."
    for engine, found in counts.items():
        if max(count.elsewhere for count in found) > ELSEWHERE:
            yield f"Other threads worked for {engine} on {cpu}, so its traffic is not whole."
        ours = counts.get(BELOW_EVERY_OTHER)
        if ours and not engine.startswith(OURS) and _millions(found) <= _millions(ours):
            yield f"{BELOW_EVERY_OTHER} does not need fewer instructions than {engine} on {cpu}."


def _millions(found: list[Count]) -> float:
    return max(count.instructions for count in found) / 1e6


def _megabytes(found: list[Count]) -> float:
    return max(count.read + count.written for count in found) / 1e6


def main() -> int:
    """Read the log; returns the exit code."""
    cpu, log = sys.argv[1:]
    counts = counts_of(Path(log).read_text(encoding="utf-8", errors="replace").splitlines())
    wrong = list(problems(cpu, counts))
    print(*printed(cpu, counts), *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
