"""An object's alarm: when it is due, and when to try again after a failure. Pure.

Rules (Cloudflare's): at most one per object; a run that raises is tried again after
2 s, 4, 8 … with 0 to 25 % jitter, six times, then dropped. What the infrastructure does
to a run (a lost lane, a failed commit) is not counted; its back-off grows all the same,
up to 2 s << 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MAX_RETRIES = 6
BASE_SECONDS = 2.0
MAX_EXPONENT = 9
JITTER = 0.25


@dataclass(frozen=True, slots=True)
class Alarm:
    """A wake-up time, in seconds since the epoch; ``failures`` that were counted."""

    due: float
    failures: int = 0


@dataclass(frozen=True, slots=True)
class AlarmInfo:
    """What ``alarm(info)`` is told: the time it was set for, and which try this is."""

    scheduled_time: datetime
    is_retry: bool
    retry_count: int


def due_time(when: datetime | timedelta | float, now: float) -> float:
    """Seconds since the epoch; a past time stands for as soon as possible.

    Raises:
        ValueError: not after the epoch, not finite, or a naive datetime.
    """
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise ValueError(
                "an alarm's datetime needs a time zone: datetime.now(timezone.utc)"
            )
        due = when.timestamp()
    elif isinstance(when, timedelta):
        due = now + when.total_seconds()
    else:
        due = float(when)
    if not math.isfinite(due) or due <= 0:
        raise ValueError(f"an alarm's time must be after 1970 and finite, not {when!r}")
    return due


def after_failure(alarm: Alarm, now: float, chance: float) -> Alarm | None:
    """The retry of a run that raised; None when it was the last. ``chance``: 0 to 1."""
    if alarm.failures >= MAX_RETRIES:
        return None
    return Alarm(now + backoff(alarm.failures, chance), alarm.failures + 1)


def backoff(exponent: int, chance: float) -> float:
    """Seconds until the next try."""
    seconds = BASE_SECONDS * (1 << min(exponent, MAX_EXPONENT))
    return seconds * (1 + JITTER * chance)


def info_of(alarm: Alarm) -> AlarmInfo:
    """What the handler is told."""
    scheduled = datetime.fromtimestamp(alarm.due, UTC)
    return AlarmInfo(scheduled, alarm.failures > 0, alarm.failures)
