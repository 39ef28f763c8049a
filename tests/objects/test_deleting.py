"""Deleting, and lists over what is not cached or not flushed; scripted floors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import Unavailable, ValueRefused
from tests.objects.scripted import Place, turns
from tests.objects.thing import Thing, work


@pytest.fixture
def place() -> Place:
    Thing.works = {}
    Thing.starts = 0
    return Place(Thing, start_timeout=0.3)


# --- delete_all


async def test_delete_all_then_writes_begin_anew(place: Place) -> None:
    place.rows.first = 1
    place.keep({"a": 1, "b": 2, "c": 3})

    @work(place, "wipe")
    async def wipe(thing: Thing) -> Any:
        thing.storage.put("d", 4)
        await thing.storage.delete_all()
        thing.storage.put("b", 5)
        return await thing.storage.list()

    assert await place.stub().do("wipe") == {"b": 5}
    assert place.stored() == {"b": "5"}
    assert len(place.lane.commits) == 1


async def test_delete_all_drops_the_schema_in_the_same_commit(place: Place) -> None:
    @work(place, "wipe")
    async def wipe(thing: Thing) -> None:
        thing.storage.put("a", 1)
        await thing.storage.sql("ok")
        thing.storage.put("b", 2)
        await thing.storage.delete_all()

    await place.stub().do("wipe")
    assert place.sql.log == ["ok", "drop"]
    assert place.lane.commits == []
    assert (place.stored(), place.rows.schemas) == ({}, {})


async def test_a_schema_that_cannot_be_dropped_keeps_the_rows_too(place: Place) -> None:
    @work(place, "wipe")
    async def wipe(thing: Thing) -> None:
        thing.storage.put("a", 1)
        await thing.storage.sql("ok")
        place.sql.failure = Unavailable("no connection")
        await thing.storage.delete_all()

    with pytest.raises(Unavailable):
        await place.stub().do("wipe")
    await turns()
    assert place.stored() == {"a": "1"}
    assert await place.stub().read("a") == 1


async def test_delete_all_is_refused_inside_a_transaction(place: Place) -> None:
    @work(place, "wipe")
    async def wipe(thing: Thing) -> None:
        thing.storage.put("a", 1)
        async with thing.storage.transaction():
            thing.storage.put("b", 1)
            with pytest.raises(ValueRefused, match="transaction"):
                await thing.storage.delete_all()

    await place.stub().do("wipe")
    assert place.stored() == {"a": "1", "b": "1"}


async def test_a_late_read_does_not_bring_back_what_delete_all_removed(
    place: Place,
) -> None:
    place.rows.first = 0
    place.keep({"a": 1})
    go_on = asyncio.Event()

    @work(place, "wipe")
    async def wipe(thing: Thing) -> None:
        await go_on.wait()
        await thing.storage.delete_all()

    @work(place, "read")
    async def read(thing: Thing) -> Any:
        return await thing.storage.get("a"), await thing.storage.list()

    wiping = asyncio.create_task(place.stub().do("wipe"))
    await turns()
    with place.rows.held():
        reading = asyncio.create_task(place.stub().read("a"))
        listing = asyncio.create_task(place.stub().do("read"))
        await turns()
        go_on.set()
        await turns()
    await asyncio.gather(wiping, reading, listing)
    assert await place.stub().do("read") == (None, {})


# --- deleting what only Postgres knows


async def test_deletions_tell_what_existed_also_of_rows_that_are_not_cached(
    place: Place,
) -> None:
    place.rows.first = 0
    place.keep({"a": 1, "b": 2, "c": 3})

    @work(place, "delete")
    async def delete(thing: Thing) -> Any:
        storage = thing.storage
        return (
            await storage.delete("a"),
            await storage.delete("a"),
            await storage.delete("absent"),
            await storage.delete(["b", "b", "nothing"]),
            await storage.list(),
        )

    deleted = await place.stub().do("delete")
    assert deleted == (True, False, False, 1, {"c": 3})
    assert place.stored() == {"c": "3"}


async def test_a_deletion_that_nobody_awaits_is_done_all_the_same(place: Place) -> None:
    place.rows.first = 0
    place.keep({"a": 1, "b": 2, "c": 3})

    @work(place, "delete")
    def delete(thing: Thing) -> None:
        thing.storage.delete("a")
        thing.storage.delete(["b"])

    await place.stub().do("delete")
    assert place.stored() == {"c": "3"}


async def test_a_cancelled_deletion_does_not_hold_up_commits(place: Place) -> None:
    place.rows.first = 0
    place.keep({"a": 1})

    @work(place, "delete")
    async def delete(thing: Thing) -> None:
        deleting = asyncio.ensure_future(thing.storage.delete("a"))
        deleting.cancel()
        await asyncio.wait([deleting])
        thing.storage.put("b", 1)

    await place.stub().do("delete")
    assert place.stored() == {"b": "1"}


async def test_a_failed_read_of_a_deletion_is_told_and_the_object_lives_on(
    place: Place,
) -> None:
    place.rows.first = 0
    place.keep({"a": 1})

    @work(place, "delete")
    async def delete(thing: Thing) -> None:
        place.rows.failure = Unavailable("no Postgres")
        with pytest.raises(Unavailable):
            await thing.storage.delete("a")
        place.rows.failure = None

    await place.stub().do("delete")
    assert (place.stored(), Thing.starts) == ({}, 1)


@pytest.mark.parametrize("limit", [None, 1, 2, 3])
@pytest.mark.parametrize("reverse", [True, False])
async def test_a_list_sees_unflushed_writes_over_what_is_not_cached(
    place: Place, limit: int | None, reverse: bool
) -> None:
    place.rows.first = 2
    place.keep(dict.fromkeys("abcdef", 0))

    @work(place, "list")
    async def listing(thing: Thing) -> Any:
        thing.storage.delete(["c", "e"])
        thing.storage.put({"d": 1, "g": 1, "b": 1})
        found = await thing.storage.list(start="b", limit=limit, reverse=reverse)
        return list(found.items())

    expected = [("b", 1), ("d", 1), ("f", 0), ("g", 1)]
    ordered = expected[::-1] if reverse else expected
    assert [tuple(e) for e in await place.stub().do("list")] == ordered[:limit]


async def test_bad_keys_are_refused_with_a_reason(place: Place) -> None:
    place.rows.first = 0
    place.keep({"a": 1})

    @work(place, "refused")
    async def refused(thing: Thing) -> None:
        storage = thing.storage
        for key in ("a\0", "\ud800"):
            with pytest.raises(ValueRefused):
                await storage.get(key)
            with pytest.raises(ValueRefused):
                await storage.get([key])
            with pytest.raises(ValueRefused):
                storage.put(key, 1)
            with pytest.raises(ValueRefused):
                await storage.delete([key])
            with pytest.raises(ValueRefused):
                await storage.list(prefix=key)
        with pytest.raises(ValueRefused, match="2048"):
            storage.put("é" * 1025, 1)
        with pytest.raises(ValueRefused, match="None"):
            storage.put("x", None)
        with pytest.raises(ValueRefused, match="a key is a string, not int"):
            storage.put(5, 1)
        with pytest.raises(ValueRefused, match="128"):
            storage.put({str(n): n for n in range(129)})
        with pytest.raises(ValueRefused, match="both"):
            await storage.list(start="a", start_after="b")
        with pytest.raises(ValueRefused, match="limit"):
            await storage.list(limit=0)
        with pytest.raises(ValueRefused, match=r"value\.when\[1\]"):
            storage.put({"ok": 1, "bad": {"when": [0, object()]}})
        assert await storage.get("ok") is None

    await place.stub().do("refused")
    assert place.stored() == {"a": "1"}
