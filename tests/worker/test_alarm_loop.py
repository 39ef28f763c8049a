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


async def test_a_window_with_more_in_it_than_one_read_brings_is_read_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alarm_loop, "MAX_WINDOW", 3)
    monkeypatch.setattr(alarm_loop, "MIN_READ_SECONDS", 0.0)
    table, read = Table(3, 0.02), asyncio.Event()

    async def ring(object_id: UUID, alarm: Alarm) -> None:
        await asyncio.Event().wait()

    loop = AlarmLoop(sources(table, ring), lambda: 100.0)
    try:
        await loop.poll()
        monkeypatch.setattr(table, "upcoming_alarms", signal(read))
        async with asyncio.timeout(5):
            await read.wait()
    finally:
        await loop.close()


async def test_what_is_due_while_attempts_are_recorded_is_one_batch() -> None:
    batches, rung = list[int](), list[UUID]()
    asked, gate, all_rung = asyncio.Event(), asyncio.Event(), asyncio.Event()
    table = Table(3, 0.0)

    async def begin_alarms(shards: Any, objects: list[UUID]) -> Any:
        batches.append(len(objects))
        asked.set()
        await gate.wait()
        return [(o, Alarm(1.0), 0.0) for o in objects]

    async def ring(object_id: UUID, alarm: Alarm) -> None:
        rung.append(object_id)
        if len(rung) == 8:
            all_rung.set()

    table.begin_alarms = begin_alarms  # type: ignore[method-assign]
    loop = AlarmLoop(sources(table, ring), lambda: 100.0)
    try:
        await loop.poll()
        async with asyncio.timeout(5):
            await asked.wait()
            for number in range(10, 15):
                loop.changed(0, UUID(int=number), Alarm(1.0))
                for _ in range(5):
                    await asyncio.sleep(0)  # its timer goes off
            assert batches == [3], "attempts are recorded one alarm at a time"
            gate.set()
            await all_rung.wait()
        assert batches == [3, 5]
    finally:
        await loop.close()


def sources(table: Any, ring: Any) -> AlarmSources:
    return AlarmSources(
        owned=lambda: [0],
        hosts=lambda object_id: True,
        table=lambda: table,
        run=ring,
    )


def signal(read: asyncio.Event) -> Any:
    async def upcoming_alarms(shards: Any, ahead: float, limit: int) -> Any:
        read.set()
        return []

    return upcoming_alarms
