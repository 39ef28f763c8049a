"""What was due while nobody owned it: at once if it is little, spread if it is much."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from durable.domain.alarms import Alarm
from durable.domain.clock import wall
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


async def test_so_many_run_at_a_time_and_are_begun_by_one_statement() -> None:
    count = alarm_loop.MAX_RUNNING + 100
    table, batches = Table(count, 0.0), list[int]()
    running, ended = set[UUID](), set[UUID]()
    full, gate, all_ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    begin = table.begin_alarms

    async def begin_alarms(shards: Any, objects: list[UUID]) -> Any:
        batches.append(len(objects))
        return await begin(shards, objects)

    async def ring(object_id: UUID, alarm: Alarm) -> None:
        running.add(object_id)
        assert len(running) <= alarm_loop.MAX_RUNNING
        if len(running) == alarm_loop.MAX_RUNNING:
            full.set()
        await gate.wait()
        running.remove(object_id)
        ended.add(object_id)
        if len(ended) == count:
            all_ended.set()

    table.begin_alarms = begin_alarms  # type: ignore[method-assign]
    loop = AlarmLoop(sources(table, ring), lambda: 100.0)
    try:
        await loop.poll()
        async with asyncio.timeout(5):
            await full.wait()
            gate.set()
            await all_ended.wait()
    finally:
        await loop.close()
    assert max(batches) == alarm_loop.MAX_BATCH
    assert sum(batches) == count


async def test_what_is_further_ahead_than_the_window_is_left_to_a_later_read() -> None:
    asked = list[tuple[float, int]]()

    async def upcoming_alarms(shards: Any, ahead: float, limit: int) -> Any:
        asked.append((ahead, limit))
        return []

    table = Table(0, 0.0)
    table.upcoming_alarms = upcoming_alarms  # type: ignore[method-assign]
    loop = AlarmLoop(sources(table, None), lambda: 100.0)
    try:
        await loop.poll()
        assert asked == [(alarm_loop.AHEAD_SECONDS, alarm_loop.MAX_WINDOW)]
        for ahead, armed in ((1.0, 0), (-1.0, 1)):
            due = wall.now() + alarm_loop.AHEAD_SECONDS + ahead
            loop.changed(0, UUID(int=1), Alarm(due))
            assert len(loop.armed) == armed
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
