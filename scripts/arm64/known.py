"""Compare what counter.c counted of known.c with what is known of it; `scripts/test-arm64` calls this.

Reads the counter's lines from stdin, for a last level of 1 MiB. Exits with 1 where a count is wrong.
"""

import sys
from typing import NamedTuple

KIB, MIB, LINE = 1024, 1024 * 1024, 64
AROUND = 16  # instructions of the marks and of the call
NEARBY = 2 * LINE  # bytes of the stack, which the call may use


class Known(NamedTuple):
    """What one part of known.c takes."""

    what: str
    instructions: int
    read: int
    written: int


PARTS = [
    # A store reads the line first. At the end half of the last level's lines are changed and not yet written.
    Known("a copy of 8 MiB", 4 * 8 * MIB // 32, 16 * MIB, 8 * MIB - 512 * KIB),
    Known("16 KiB for the first time", 4 * 16 * KIB // LINE, 16 * KIB, 0),
    Known("16 KiB again: in the first level", 4 * 16 * KIB // LINE, 0, 0),
    # Of what it replaces, every other line belongs to the copy's target.
    Known("512 KiB, of which it has 16", 4 * 512 * KIB // LINE, (512 - 16) * KIB, 256 * KIB),
    Known("512 KiB again: in the last level", 4 * 512 * KIB // LINE, 0, 0),
    # Every fourth line of 2 MiB: 512 KiB in a quarter of the sets, which hold 256 KiB. The first 128 KiB are there.
    Known("a stride of four lines", 4 * 2 * MIB // (4 * LINE), (512 - 128) * KIB, 64 * KIB),
    Known("the same stride again", 4 * 2 * MIB // (4 * LINE), 512 * KIB, 0),
    # 1 MiB stays in the caches, and what was changed in them before (512 - 256 - 64 KiB) is written.
    Known("stores to 8 MiB", 4 * 8 * MIB // LINE, 8 * MIB, 7 * MIB + 192 * KIB),
    Known("8 MiB, which replace the stores'", 4 * 8 * MIB // LINE, 8 * MIB, MIB),
    Known("8 bytes across two lines", 4, 2 * LINE, 0),
    Known("zeros with DC ZVA", 1, 0, LINE),
]


def main() -> int:
    """Compare line by line; returns the exit code."""
    lines = [line.split()[2:] for line in sys.stdin if line.startswith("COUNTED ")]
    if len(lines) != len(PARTS):
        print(f"{len(lines)} parts were counted instead of {len(PARTS)}.")
        return 1
    wrong = 0
    for part, line in zip(PARTS, lines, strict=True):
        instructions, read, written, elsewhere = map(int, line)
        right = (
            0 <= instructions - part.instructions <= AROUND
            and 0 <= read - part.read <= NEARBY
            and abs(written - part.written) < LINE
            and elsewhere == 0
        )
        if not right:
            print(f"{part.what}: counted {instructions} {read} {written} {elsewhere}, and it is {part}.")
        wrong += not right
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
