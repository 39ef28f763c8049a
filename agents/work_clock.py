"""The one place where an agent's work asks for the time, waits, and draws lots.

Tests put a clock of their own in the place of ``clock``. When an alarm fires is the
database's to decide; what is due then is decided with this.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import Protocol


class WorkClock(Protocol):
    """Seconds since the epoch, waiting, and chance."""

    def now(self) -> float:
        """The present moment."""

    async def sleep(self, seconds: float) -> None:
        """Return so much later."""

    def chance(self) -> float:
        """From 0 to 1, differently each time."""


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        """The present moment."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return so much later."""
        await asyncio.sleep(seconds)

    def chance(self) -> float:
        """From 0 to 1, differently each time."""
        return random.random()


clock: WorkClock = SystemClock()


def now() -> float:
    """Seconds since the epoch."""
    return clock.now()


def milliseconds(seconds: float) -> int:
    """Whole milliseconds; what a float lacks to the next one is no difference."""
    return int(seconds * 1000 + 0.01)


def not_before(seconds: float) -> int:
    """The first whole millisecond that isn't before a moment."""
    return math.ceil(seconds * 1000 - 0.01)
