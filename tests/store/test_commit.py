"""The commit functions: what they write, and whom they refuse."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from durable.domain.writes import Claim, ObjectRow, WriteSet
from durable.store.commit import (
    COMMIT_OFF_LANE,
    COMMIT_ON_LANE,
    off_lane,
    on_lane,
    rows_of,
)
from tests.store.lanes import OWNER, opened, session, somebody_waits, until, write_set

OBJECT = UUID(int=5)


async def rows(connection: Any) -> list[tuple[Any, ...]]:
    found = await connection.fetch(
        "SELECT space, key, value::text, blob FROM durable.kv ORDER BY space, key"
    )
    return [tuple(row) for row in found]


async def test_a_write_set_is_written_wipe_first_then_deletions_then_rows(
    database_url: str,
) -> None:
    async with opened(database_url) as place, session(database_url) as admin:
        (claim,) = await place.claim(3)
        first = write_set(
            {("user", "a"): "1", ("user", "b"): b"\x00b", ("s", "c"): "3"}
        )
        await admin.execute(COMMIT_ON_LANE, *on_lane([(OBJECT, claim, first)]))
        assert await rows(admin) == [
            ("s", "c", "3", None),
            ("user", "a", "1", None),
            ("user", "b", None, b"\x00b"),
        ]
        second = write_set({("user", "a"): None, ("user", "b"): "[2]"})
        await admin.execute(COMMIT_ON_LANE, *on_lane([(OBJECT, claim, second)]))
        assert await rows(admin) == [("s", "c", "3", None), ("user", "b", "[2]", None)]
        third = write_set({("user", "z"): '"é"'}, wipe=True)
        await admin.execute(COMMIT_ON_LANE, *on_lane([(OBJECT, claim, third)]))
        assert await rows(admin) == [("user", "z", '"é"', None)]
        found = await admin.fetch("SELECT shard, id, tag, name FROM durable.object")
        assert [tuple(row) for row in found] == [(3, OBJECT, 7, "name")]


async def test_a_wipe_alone_removes_the_object(database_url: str) -> None:
    async with opened(database_url) as place, session(database_url) as admin:
        (claim,) = await place.claim(3)
        writes = write_set({("user", "a"): "1"})
        await admin.execute(COMMIT_ON_LANE, *on_lane([(OBJECT, claim, writes)]))
        wipe = WriteSet()
        wipe.delete_all()
        await admin.execute(COMMIT_ON_LANE, *on_lane([(OBJECT, claim, wipe)]))
        assert await rows(admin) == []
        assert await admin.fetchval("SELECT count(*) FROM durable.object") == 0


async def test_a_stale_claim_is_refused_on_and_off_the_lane(database_url: str) -> None:
    async with opened(database_url) as place, session(database_url) as admin:
        (claim,) = await place.claim(3)
        writes = write_set({("user", "a"): "1"})
        for stale in (Claim(3, claim.epoch + 1, claim.claim_id), Claim(3, 1, OWNER)):
            for query, params in (
                (COMMIT_ON_LANE, on_lane([(OBJECT, stale, writes)])),
                (COMMIT_OFF_LANE, off_lane(OBJECT, stale, writes)),
            ):
                with pytest.raises(asyncpg.PostgresError) as caught:
                    await admin.execute(query, *params)
                assert caught.value.sqlstate == "DF001"
        assert await rows(admin) == []


async def test_off_the_lane_rows_of_another_shard_are_refused(
    database_url: str,
) -> None:
    """Whoever holds the claim of one shard must not write in another's name."""
    async with opened(database_url) as place, session(database_url) as admin:
        (claim,) = await place.claim(3)
        foreign = Claim(4, claim.epoch, claim.claim_id)
        writes = write_set({("user", "a"): "1"})
        params = (3, claim.epoch, claim.claim_id, *rows_of([(OBJECT, foreign, writes)]))
        with pytest.raises(asyncpg.PostgresError) as caught:
            await admin.execute(COMMIT_OFF_LANE, *params)
        assert caught.value.sqlstate == "DF002"


async def test_a_writer_off_the_lane_that_waited_for_a_claim_finds_itself_stale(
    database_url: str,
) -> None:
    async with (
        opened(database_url) as place,
        session(database_url) as claimer,
        session(database_url) as writer,
    ):
        (claim,) = await place.claim(3)
        params = off_lane(OBJECT, claim, write_set({("user", "a"): "1"}))
        transaction = claimer.transaction()
        await transaction.start()
        await claimer.execute("SELECT FROM durable.claim('{3}', $1)", OWNER)
        writing = asyncio.create_task(writer.execute(COMMIT_OFF_LANE, *params))
        await until(lambda: somebody_waits(place.database))
        await transaction.commit()
        with pytest.raises(asyncpg.PostgresError) as caught:
            await writing
        assert caught.value.sqlstate == "DF001"


async def test_release_needs_the_claim_that_holds_the_shard(database_url: str) -> None:
    async with opened(database_url) as place, session(database_url) as admin:
        await place.claim(3)
        release = "SELECT durable.release('{3}', $1)"
        await admin.execute(release, [OWNER])
        owner = "SELECT owner FROM durable.shard WHERE id = 3"
        assert await admin.fetchval(owner) == OWNER


def test_rows_are_columns_in_the_order_of_the_functions() -> None:
    claim = Claim(3, 1, OWNER)
    writes = write_set({("user", "a"): None, ("user", "b"): "1", ("s", "c"): b"x"})
    writes.create = ObjectRow(9, None)
    columns = rows_of([(OBJECT, claim, writes)])
    assert [len(column) for column in columns] == [0, 0, *[1] * 8, *[2] * 6, *[0] * 4]
    assert columns[5] == [None]
    assert columns[12:16] == ([("user"), "s"], ["b", "c"], ["1", None], [None, b"x"])
