"""Run seeds: `python -m tests.simulation [SEEDS [FIRST]]`, 10,000 from 0 by default.

Prints the first seed that fails, with what didn't hold; run it alone, with 1 and its
number, to see it again.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence

from tests.simulation.world import Violation, World

SEEDS = 10_000
CHUNK = 50


def failing(seeds: range) -> str | None:
    """What the first of some seeds that fails has to say."""
    for seed in seeds:
        try:
            World(seed).run()
        except Violation as error:
            return str(error)
    return None


def main(arguments: Sequence[str]) -> int:
    """Run them on all cores; the exit code is 1 if one fails."""
    numbers = [int(argument) for argument in arguments]
    seeds, first = [*numbers, *(SEEDS, 0)[len(numbers) :]]
    chunks = [
        range(start, min(start + CHUNK, first + seeds))
        for start in range(first, first + seeds, CHUNK)
    ]
    begun = time.monotonic()
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for error in pool.imap(failing, chunks):
            if error is not None:
                sys.stdout.write(f"{error}\n")
                return 1
    seconds = time.monotonic() - begun
    sys.stdout.write(f"{seeds:,} seeds hold, in {seconds:.1f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
