"""Wakes are written down where an owner fell, and suspects are woken one at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from uuid import UUID

import pytest

from durable.domain.errors import Moved, Quarantined, Unavailable
from durable.domain.ownership_steps import TRIAL_SECONDS
from durable.domain.writes import Claim
from durable.store.lane_statements import BEGIN_TRIALS
from durable.worker import trials
from durable.worker.trials import MAX_WAKES, WakeTrials

A, B = UUID(int=1), UUID(int=2)
FALLEN = Claim(3, 7, UUID(int=9), trials_until=100.0)
HEALTHY = Claim(3, 7, UUID(int=9))


class Table:
    """Counts what is sent; ``broken`` as a lost lane."""

    def __init__(self) -> None:
        self.wakes: Counter[UUID] = Counter()
        self.statements = 0
        self.broken = False

    async def run(
        self, statement: str, shards: list[int], objects: list[UUID]
    ) -> list[object]:
        if self.broken:
            raise Unavailable("the lane is lost")
        assert shards == [3] * len(objects)
        self.statements += 1
        for object_id in objects:
            if statement == BEGIN_TRIALS:
                self.wakes[object_id] += 1
            else:
                self.wakes.pop(object_id, None)
        return []


class Place:
    """Trials of shard 3."""

    def __init__(self, now: float = 0.0) -> None:
        self.table = Table()
        self.claim: Claim | None = FALLEN
        self.trials = WakeTrials(lambda: self.table, lambda _: self.claim, lambda: now)


async def test_a_wake_after_a_fall_is_counted_until_an_event_has_ended() -> None:
    place = Place()
    assert await place.trials.begin(FALLEN, A, 0)
    assert place.table.wakes == {A: 1}
    place.trials.end(FALLEN, A)
    await place.trials.close()
    assert not place.table.wakes


@pytest.mark.parametrize(("claim", "now"), [(HEALTHY, 0.0), (FALLEN, 101.0)])
async def test_where_all_is_well_nothing_is_written(claim: Claim, now: float) -> None:
    place = Place(now)
    assert not await place.trials.begin(claim, A, 0)
    # It was awake in a fall; its last owner gave it back, so it isn't counted again.
    assert await place.trials.begin(claim, B, 1)
    assert place.table.statements == 0


async def test_objects_that_wake_together_are_written_together() -> None:
    place = Place()
    both = (place.trials.begin(FALLEN, object_id, 0) for object_id in (A, B))
    assert await asyncio.gather(*both) == [True, True]
    assert place.table.statements == 1


async def test_a_suspect_waits_until_its_owner_has_lived_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trials, "SUSPECT_SECONDS", 0.02)
    place = Place()
    fresh = replace(FALLEN, trials_until=TRIAL_SECONDS)
    suspect = asyncio.create_task(place.trials.begin(fresh, A, 1))
    assert await place.trials.begin(fresh, B, 0)
    assert place.table.wakes == {B: 1}, "whoever isn't suspected doesn't wait"
    assert await suspect
    assert place.table.wakes == {A: 1, B: 1}


async def test_a_suspect_is_woken_when_the_one_before_has_ended_an_event() -> None:
    place = Place()
    assert await place.trials.begin(FALLEN, A, 1)
    other = asyncio.ensure_future(place.trials.begin(FALLEN, B, 1))
    for _ in range(10):
        await asyncio.sleep(0)
    assert place.table.wakes == {A: 1}, "a fall now would have two suspects"
    place.trials.end(FALLEN, A)
    assert await other
    assert place.table.wakes == {B: 1}
    place.trials.end(FALLEN, B)
    await place.trials.close()


async def test_a_suspect_that_takes_its_time_holds_up_the_others_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("durable.worker.trials.ALONE_SECONDS", 0.01)
    place = Place()
    assert await place.trials.begin(FALLEN, A, 1)
    async with asyncio.timeout(5):
        assert await place.trials.begin(FALLEN, B, 1)


@pytest.mark.parametrize("claim", [FALLEN, HEALTHY])
async def test_what_took_three_owners_down_is_not_woken(claim: Claim) -> None:
    place = Place()
    with pytest.raises(Quarantined, match="took 3 nodes down"):
        await place.trials.begin(claim, A, MAX_WAKES)
    assert place.table.statements == 0


async def test_an_object_is_not_woken_if_its_wake_can_not_be_written() -> None:
    place = Place()
    place.table.broken = True
    with pytest.raises(Unavailable):
        await place.trials.begin(FALLEN, A, 1)
    place.table.broken, place.claim = False, None
    with pytest.raises(Moved):
        await place.trials.begin(FALLEN, B, 1)
    assert place.table.statements == 0
