"""What an activation reads: its first rows in a batch, single keys, ranges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from durable.domain.errors import CommitUnknown, Unavailable
from durable.domain.ports import KeyRange
from durable.domain.writes import Claim
from durable.store.database import Database
from durable.store.reads import LOAD_ROWS, Reads
from tests.store.lanes import (
    Opened,
    Source,
    opened,
    session,
    somebody_waits,
    terminate,
    until,
)


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Opened]:
    async with opened(database_url) as place:
        yield place


@pytest.fixture
async def claim(place: Opened) -> Claim:
    (claim,) = await place.claim(3)
    return claim


async def store(place: Opened, claim: Claim, rows: dict[tuple[str, str], str]) -> UUID:
    source = Source(claim, dict(rows))
    place.lane.mark_dirty(source)
    await source.result
    return source.object_id


async def test_objects_that_start_together_are_loaded_together(
    place: Opened, claim: Claim
) -> None:
    objects = [
        await store(place, claim, {("user", "n"): str(number)}) for number in range(5)
    ]
    reads = Reads(place.database)
    loaded = await asyncio.gather(*(reads.load(3, o) for o in [*objects, uuid4()]))
    assert [one.rows for one in loaded[:5]] == [
        {("user", "n"): str(number)} for number in range(5)
    ]
    assert [(one.exists, one.complete, one.name) for one in loaded] == [
        *[(True, True, "name")] * 5,
        (False, True, None),
    ]


@pytest.mark.parametrize("count", [LOAD_ROWS - 1, LOAD_ROWS, LOAD_ROWS + 1, 200])
async def test_the_first_rows_come_in_order_and_say_whether_they_are_all(
    place: Opened, claim: Claim, count: int
) -> None:
    keys = [f"{number:04}" for number in range(count)]
    object_id = await store(place, claim, {("user", key): "1" for key in keys})
    loaded = await Reads(place.database).load(3, object_id)
    assert [key for _, key in loaded.rows] == keys[:LOAD_ROWS]
    assert loaded.complete is (count <= LOAD_ROWS)


async def test_large_rows_end_the_first_read_early_but_never_before_one(
    place: Opened, claim: Claim
) -> None:
    noise = '"' + "".join(uuid4().hex for _ in range(9_000)) + '"'
    object_id = await store(
        place, claim, {("agent", "state"): noise, ("user", "a"): "1"}
    )
    loaded = await Reads(place.database).load(3, object_id)
    assert list(loaded.rows) == [("agent", "state")]
    assert not loaded.complete


async def test_ranges_are_in_the_order_of_utf8_bytes(
    place: Opened, claim: Claim
) -> None:
    keys = ["", "A", "B", "a", "a\x01", "aa", "z", "é", "\uffff", "\U0001f600"]
    object_id = await store(place, claim, {("user", key): "1" for key in keys})
    reads = Reads(place.database)

    async def scan(**how: object) -> list[str]:
        wanted = KeyRange(**how)  # type: ignore[arg-type]
        return list(await reads.scan(3, object_id, "user", wanted))

    assert await scan() == keys
    assert await scan(reverse=True) == keys[::-1]
    assert await scan(start="a", end="z") == ["a", "a\x01", "aa"]
    assert await scan(start="a", reverse=True, limit=2) == keys[:-3:-1]
    found = await reads.get(3, object_id, "user", ["a", "absent", "é"])
    assert found == {"a": "1", "é": "1"}
    assert await reads.get(3, object_id, "other", ["a"]) == {}


async def test_draining_waits_for_the_writers_of_the_shard(
    place: Opened, database_url: str
) -> None:
    reads = Reads(place.database)
    async with session(database_url) as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("SELECT pg_advisory_xact_lock_shared(17490, 3)")
        await reads.drain(4)
        draining = asyncio.create_task(reads.drain(3))
        await until(lambda: somebody_waits(place.database))
        assert not draining.done()
        await transaction.commit()
        await draining


async def test_a_lost_connection_is_unavailable_to_all_who_waited_then_heals(
    place: Opened, database_url: str, claim: Claim
) -> None:
    object_id = await store(place, claim, {("user", "a"): "1"})
    async with Database(database_url, limit=5, size=1, name="one") as database:
        reads = Reads(database)
        async with session(database_url) as admin, admin.transaction():
            await admin.execute("LOCK durable.kv IN ACCESS EXCLUSIVE MODE")
            loads = [asyncio.create_task(reads.load(3, object_id)) for _ in range(3)]
            await until(lambda: somebody_waits(admin))
            await terminate(database_url, "one")
            for load in loads:
                with pytest.raises(Unavailable):
                    await load
        assert (await reads.load(3, object_id)).exists


async def test_a_connection_lost_in_a_commit_leaves_its_outcome_unknown(
    place: Opened, database_url: str, claim: Claim
) -> None:
    writes = Source(claim, {("user", "a"): "1"}).take_writes()
    assert writes is not None
    async with Database(database_url, limit=5, size=1, name="one") as database:
        async with session(database_url) as admin, admin.transaction():
            await admin.execute("LOCK durable.kv")
            committing = asyncio.create_task(database.commit(uuid4(), claim, writes))
            await until(lambda: somebody_waits(admin))
            await terminate(database_url, "one")
            with pytest.raises(CommitUnknown):
                await committing
