"""Time, as Python sees it. Which alarms are due is the database's to decide."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Seconds since some fixed moment; never goes back, runs on in a suspended host."""

    def __call__(self) -> float:
        """The seconds."""


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# A suspended laptop or VM must find its lease stale: BOOTTIME where there is one.
boottime: Clock = _boottime if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic


class WallClock:
    """The time of alarms and of what they wait for; a test kit puts its own in."""

    def __init__(self) -> None:
        # Seconds since the epoch.
        self.now: Callable[[], float] = time.time
        # What an alarm in memory waits by: setting the machine's clock doesn't move it.
        self.elapsed: Clock = boottime
        # From 0 to 1, to spread retries.
        self.chance: Callable[[], float] = random.random


wall = WallClock()


def now() -> datetime:
    """The present moment, in UTC; in tests, that of the test's clock."""
    return datetime.fromtimestamp(wall.now(), UTC)
