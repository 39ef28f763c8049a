"""Classes in the database: what purge removes, what holds a stale worker back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from durable.domain.ids import id_from_name, shard_of
from durable.store import classes
from durable.store.classes import Announcement, StoredClass
from server.classes import ClassesError, admit
from server.config_project import Project

ADD_OBJECTS = """
INSERT INTO durable.object (shard, id, tag, name)
SELECT * FROM unnest($1::int[], $2::uuid[], $3::bigint[], $4::text[])
"""
ADD_KEYS = """
INSERT INTO durable.kv (shard, object, space, key, value)
SELECT shard, id, 'user', n::text, '1' FROM durable.object, generate_series(1, 7) n
WHERE tag = $1
"""


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def stored_class(connection: Any, name: str, objects: int = 0) -> StoredClass:
    """A class with so many objects, seven keys each, all over the shards."""
    tag = (await classes.make(connection, "main", [name]))[name]
    names = [f"{name}-{number}" for number in range(objects)]
    ids = [id_from_name(tag, each).value for each in names]
    shards = [shard_of(each, 1024) for each in ids]
    await connection.execute(ADD_OBJECTS, shards, ids, [tag] * objects, names)
    await connection.execute(ADD_KEYS, tag)
    found = await classes.find(connection, "main", name)
    assert found is not None
    return found


async def test_purge_goes_in_batches_and_takes_every_table_with_rows_of_objects(
    connection: Any,
) -> None:
    gone = await stored_class(connection, "Gone", 50)
    stays = await stored_class(connection, "Stays", 50)
    # As a later revision might add it; this code doesn't know of it.
    await connection.execute(
        "CREATE TABLE durable.extra (shard int, object uuid, PRIMARY KEY (object))"
    )
    await connection.execute(
        "INSERT INTO durable.extra SELECT shard, id FROM durable.object"
    )
    said: list[str] = []
    assert await classes.purge(connection, said.append, batch=20)
    assert said == []  # nobody was doomed
    await classes.doom(connection, gone.tag)
    assert await classes.purge(connection, said.append, batch=20)
    # 50 objects, 350 keys and 50 rows of the other table, at most 20 at a time.
    assert said[0] == "Gone (main): 20 rows removed so far"
    assert said[-1] == "Gone (main): all is removed (450 rows, 0 SQL schemas)"
    assert len(said) >= 450 // 20
    assert await connection.fetchval("SELECT count(*) FROM durable.extra") == 50
    assert await classes.listed(connection) == [stays]
    size = await classes.size(connection, stays.tag)
    assert (size.objects, size.keys) == (50, 350)


async def test_rows_of_a_class_that_is_not_doomed_can_not_be_purged(
    connection: Any,
) -> None:
    found = await stored_class(connection, "Counter", 3)
    with pytest.raises(asyncpg.RaiseError, match="is not to be deleted"):
        await connection.execute("SELECT durable.purge_rows($1, 100)", found.tag)
    assert (await classes.size(connection, found.tag)).objects == 3


async def test_one_purge_at_a_time(connection: Any, database_url: str) -> None:
    other = await asyncpg.connect(database_url)
    await other.execute("SELECT pg_advisory_lock(17491, 3)")
    assert not await classes.purge(connection, lambda _: None)
    await other.close()


async def test_a_doomed_class_is_found_no_more_and_its_name_gets_a_new_tag(
    connection: Any,
) -> None:
    old = await stored_class(connection, "Counter", 1)
    await classes.doom(connection, old.tag)
    assert await classes.find(connection, "main", "Counter") is None
    new = await classes.make(connection, "main", ["Counter"])
    assert new["Counter"] != old.tag


async def test_a_retired_worker_claims_nothing_and_others_claim_all(
    connection: Any,
) -> None:
    found = await stored_class(connection, "Counter")
    stale, fresh = uuid4(), uuid4()
    await classes.announce(connection, Announcement(stale, "a:1", "0"), [found.tag])
    await classes.retire(connection, found.tag, "Counter is called Meter")
    await classes.announce(connection, Announcement(fresh, "b:1", "0"), [found.tag])
    claim = "SELECT count(*) FROM durable.claim(ARRAY[1, 2], $1)"
    assert await connection.fetchval(claim, fresh) == 2
    epochs = "SELECT id, epoch, owner FROM durable.shard WHERE id IN (1, 2) ORDER BY id"
    before = await connection.fetch(epochs)
    assert await connection.fetchval(claim, stale) == 0
    assert await connection.fetch(epochs) == before
    assert await classes.stale(connection, stale) == "Counter is called Meter"
    assert await classes.stale(connection, fresh) is None


async def test_only_workers_that_serve_a_class_count_for_it(connection: Any) -> None:
    mine = await stored_class(connection, "Mine")
    other = await stored_class(connection, "Other")
    serves, unknown = uuid4(), uuid4()
    await classes.announce(connection, Announcement(serves, "a:1", "0"), [mine.tag])

    async def workers(found: StoredClass) -> set[UUID]:
        return {each.worker for each in await classes.serving(connection, found.tag)}

    assert await workers(mine) == {serves}
    assert await workers(other) == set()
    # Of an older version, which doesn't say what it serves: it might be anything.
    await connection.execute(
        "INSERT INTO durable.worker (id, address, version) VALUES ($1, 'c:1', '0')",
        unknown,
    )
    assert await workers(other) == {unknown}


async def test_a_worker_starts_before_a_change_of_classes_or_after_never_within(
    connection: Any, database_url: str
) -> None:
    found = await stored_class(connection, "Counter", 1)
    starting = await asyncpg.connect(database_url)
    worker = Announcement(uuid4(), "a:1", "0")
    async with classes.alone(connection):
        assert await classes.serving(connection, found.tag) == []
        start = asyncio.ensure_future(admit(starting, Project(), ["Counter"], worker))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND classid = 17491"
        async with asyncio.timeout(10):
            while await connection.fetchval(waiting) == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # a lock that is waited for tells nobody
        await classes.move(connection, found.tag, "main", "Meter")
    with pytest.raises(ClassesError, match="objects of Meter"):
        await start
    assert await classes.serving(connection, found.tag) == []
    await starting.close()


async def test_nodes_that_start_at_once_agree_on_the_tags(database_url: str) -> None:
    names = [f"Class{number}" for number in range(20)]

    async def node(number: int) -> dict[str, int]:
        connection = await asyncpg.connect(database_url)
        try:
            mine = names if number % 2 else names[::-1]
            worker = Announcement(uuid4(), f"a:{number}", "0")
            return await admit(connection, Project(), mine, worker)
        finally:
            await connection.close()

    first, *others = await asyncio.gather(*(node(number) for number in range(5)))
    assert sorted(first) == sorted(names)
    assert all(found == first for found in others)
