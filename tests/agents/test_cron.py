"""Cron against a table of (expression, zone, now → next), and against croniter.

The two libraries differ in one thing, marked ``once``: a fixed time of day that comes
twice, because the clock is put back, is run once by ours (as by Debian's cron).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter

from agents.schedule_times import cron_next

_LINES = Path(__file__).with_name("cron_table.tsv").read_text().splitlines()[1:]
TABLE = [tuple(line.split("\t")) for line in _LINES]


def ours(expression: str, zone: str, now: str) -> datetime:
    found = cron_next(expression, zone, datetime.fromisoformat(now).timestamp())
    return datetime.fromtimestamp(found / 1000, UTC)


def theirs(expression: str, zone: str, now: str) -> datetime:
    fields = expression.split()
    either_day = not (fields[-3].startswith("*") or fields[-1].startswith("*"))
    start = datetime.fromisoformat(now).astimezone(ZoneInfo(zone))
    # The last Friday of a month is spelt the other way round there.
    spelt = expression.replace("5L", "L5")
    cron = croniter(spelt, start, day_or=either_day, second_at_beginning=True)
    found: datetime = cron.get_next(datetime)
    return found.astimezone(UTC)


def test_the_table_has_200_cases_with_leap_days_and_clock_changes() -> None:
    assert len(TABLE) >= 200
    assert any("-02-29T" in following for _, _, _, following, _ in TABLE)
    assert len({zone for _, zone, _, _, _ in TABLE}) >= 5
    assert len([note for *_, note in TABLE if note]) > 5


@pytest.mark.parametrize(
    ("expression", "zone", "now", "following", "note"), TABLE, ids=lambda part: part
)
def test_the_next_time_is_that_of_the_table_and_of_croniter(
    expression: str, zone: str, now: str, following: str, note: str
) -> None:
    expected = datetime.fromisoformat(following)
    assert ours(expression, zone, now) == expected
    other = theirs(expression, zone, now)
    if note == "once":
        assert other < expected
        assert other.astimezone(ZoneInfo(zone)).fold == 1
    else:
        assert other == expected


@pytest.mark.parametrize(
    ("expression", "zone", "now", "runs"),
    [
        # 02:00 to 03:00 doesn't exist: right after the gap.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["03-29 03:00+02:00"]),
        # 02:00 to 03:00 comes twice: a time of day the first time, a rhythm each time.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", ["10-25 02:30+02:00"]),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:01Z",
            [
                "10-25 02:30+02:00",
                "10-25 02:00+01:00",
                "10-25 02:30+01:00",
                "10-25 03:00+01:00",
            ],
        ),
        # Once in the gap's night, too: no second run at 03:00.
        (
            "30 2,3 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00Z",
            ["03-29 03:00+02:00", "03-29 03:30+02:00"],
        ),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00Z", ["02-29 00:00+00:00"]),
        ("0 0 * * 0", "UTC", "2026-01-01T00:00Z", ["01-04 00:00+00:00"]),
        ("0 0 * * 7", "UTC", "2026-01-01T00:00Z", ["01-04 00:00+00:00"]),
        ("0 0 * * 1", "UTC", "2026-01-01T00:00Z", ["01-05 00:00+00:00"]),
    ],
)
def test_runs_follow_each_other_as_the_documents_say(
    expression: str, zone: str, now: str, runs: list[str]
) -> None:
    moment = datetime.fromisoformat(now).timestamp()
    for expected in runs:
        moment = cron_next(expression, zone, moment) / 1000
        local = datetime.fromtimestamp(moment, ZoneInfo(zone))
        assert local.isoformat(" ", "minutes")[5:] == expected
