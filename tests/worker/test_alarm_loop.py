"""What was due while nobody owned it: at once if it is little, spread if it is much."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from durable.domain.alarms import Alarm
from durable.worker import alarm_loop
from durable.worker.alarm_loop import AlarmLoop, AlarmSources


class Table:
    """Says that so many alarms are overdue, and begins what is asked for."""

    def __init__(self, count: int, wait: float) -> None:
        self.rows = [(0, UUID(int=n + 1), wait) for n in range(count)]
        self.begun = 0

    async def upcoming_alarms(self, shards: Any, ahead: float, limit: int) -> Any:
        return self.rows

    async def begin_alarms(self, shards: Any, objects: list[UUID]) -> Any:
        self.begun += len(objects)
        return [(o, Alarm(1.0), 0.0) for o in objects]


@pytest.mark.parametrize(
    ("count", "wait", "expected"),
    [(256, -60.0, 0.0), (5000, -60.0, 5.0), (5000, -0.5, 0.0)],
    ids=["few", "many", "only just due"],
)
async def test_many_overdue_alarms_are_spread(
    count: int, wait: float, expected: float
) -> None:
    table = Table(count, wait)

    async def ring(object_id: UUID, alarm: Alarm) -> None:
        await asyncio.Event().wait()

    loop = AlarmLoop(
        AlarmSources(
            owned=lambda: [0],
            hosts=lambda object_id: True,
            table=lambda: table,
            run=ring,
        ),
        lambda: 100.0,
    )
    try:
        await loop.poll()
        times = sorted(when - 100.0 for when in loop._armed.values())
        assert len(times) == count
        assert times[-1] <= expected
        if expected:
            middle = times[count // 2]
            assert expected / 3 < middle < expected * 2 / 3
            rate = count / expected
            assert rate == alarm_loop.OVERDUE_A_SECOND
    finally:
        await loop.close()
