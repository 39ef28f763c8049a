"""When a schedule runs: what its author said, and the next time from a moment on. Pure.

Cron is read as everyone's cron is: 5 fields, or 6 with seconds first; Monday is 1,
Sunday 0 and 7. Clock changes are treated as Debian's cron does: a fixed time of day
that is skipped runs right after the gap, one that comes twice runs the first time;
expressions with ``*`` in minute or hour, or with seconds, follow the elapsed time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from agents.retries import seconds_of
from agents.work_clock import milliseconds, not_before

MAX_INTERVAL_SECONDS = 30 * 24 * 3600.0
# The last moment that a datetime can be of, by a day: any time zone has it.
LAST_TIME = 253402214400.0


@dataclass(frozen=True, slots=True)
class Timing:
    """When a new schedule is first due (milliseconds), and what it repeats by."""

    type: str
    due: int
    delay: float | None = None
    cron: str | None = None
    timezone: str | None = None
    interval: float | None = None


def timing_of(when: Any, now: float, timezone: str | ZoneInfo | None) -> Timing:
    """Read what ``schedule`` is given; a past time stands for as soon as possible.

    Raises:
        TypeError: nothing that tells a time.
        ValueError: no finite time, a cron expression that is wrong or that no day
            fulfils, or an unknown time zone.
    """
    if isinstance(when, str):
        zone = _zone_name(timezone)
        return Timing("cron", cron_next(when, zone, now), cron=when, timezone=zone)
    if timezone is not None:
        raise ValueError("timezone= is for cron expressions; a datetime has its own")
    if isinstance(when, datetime):
        return Timing("scheduled", not_before(moment_of(when, "when")))
    if isinstance(when, bool) or not isinstance(when, int | float | timedelta):
        raise TypeError(
            "when is seconds or a timedelta from now, a datetime, or a cron "
            f"expression, not a {type(when).__name__}"
        )
    delay = seconds_of(when, "a delay")
    due = moment_of(now + delay, "when")
    return Timing("delayed", not_before(due), delay=delay)


def interval_of(every: Any, now: float) -> Timing:
    """Read what ``schedule_every`` is given.

    Raises:
        TypeError, ValueError: no duration, or not above 0 and up to 30 days.
    """
    seconds = seconds_of(every, "an interval")
    if not 0 < seconds <= MAX_INTERVAL_SECONDS:
        raise ValueError(
            f"an interval is above 0 and at most {MAX_INTERVAL_SECONDS:.0f} s "
            f"(30 days), not {seconds:g} s"
        )
    return Timing("interval", not_before(now + seconds), interval=seconds)


def moment_of(value: Any, what: str) -> float:
    """Seconds since the epoch, from those or a datetime; a naive one is in UTC.

    Raises:
        TypeError, ValueError: it isn't one, or is after the year 9999.
    """
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"{what} is a datetime or seconds since the epoch, "
            f"not a {type(value).__name__}"
        )
    if not (math.isfinite(value) and value <= LAST_TIME):
        raise ValueError(f"{what} must be finite and before the year 9999, not {value}")
    return max(float(value), 0.001)


def cron_next(expression: str, zone: str, after: float) -> int:
    """The first time after a moment that an expression names; milliseconds.

    Raises:
        ValueError: the expression is wrong, or no day fulfils it.
    """
    start = datetime.fromtimestamp(after, UTC).astimezone(_zone(zone))
    try:
        for found in CronSim(expression, start):
            # In the second pass of an hour that comes twice the first is over.
            if found.timestamp() > after:
                return milliseconds(found.timestamp())
    except (CronSimError, OverflowError, AssertionError, TypeError) as error:
        raise ValueError(
            f"{expression!r} is no cron expression: {str(error) or 'bad syntax'} "
            "(minute hour day month weekday, with a seconds field first if there are "
            "six; Monday is 1)"
        ) from error
    raise ValueError(f"{expression!r} never comes: no day fulfils it in 50 years")


def _zone_name(given: str | ZoneInfo | None) -> str:
    if given is None:
        return "UTC"
    name = given.key if isinstance(given, ZoneInfo) else given
    _zone(name)
    return name


def _zone(name: str) -> Any:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise ValueError(
            f"there is no time zone {name!r}: a name like 'Europe/Berlin' is wanted"
        ) from error
