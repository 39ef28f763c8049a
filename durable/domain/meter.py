"""What a worker counts of its own work, for whoever wants to look.

Counting costs an addition where it happens; nothing here knows how it is shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Distribution:
    """How often values were at most so large: counts by upper bound, and the sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        # One more than bounds: for what is larger than the last.
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(slots=True)
class Meter:
    """Counts since the worker began; durations in seconds."""

    commits: Distribution = field(default_factory=lambda: Distribution(SECONDS))
    """How long group commits took."""
    batches: Distribution = field(default_factory=lambda: Distribution(SIZES))
    """How many objects' write sets were in each."""
    gate_waits: Distribution = field(default_factory=lambda: Distribution(SECONDS))
    """How long what objects said was held back at output gates."""
    claims: int = 0
    """Shards that were claimed."""
    failovers: int = 0
    """Of them, those whose former owner hadn't given them back."""
    lanes_lost: int = 0
