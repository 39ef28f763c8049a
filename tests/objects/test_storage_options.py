"""What an option of a storage call changes, and what a large value or cache meets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import ResetError, TransactionEnded, ValueTooLarge
from durable.domain.alarms import Alarm
from durable.domain.errors import CommitFailed
from tests.objects.scripted import Place, turns
from tests.objects.thing import Thing, work


@pytest.fixture
def place() -> Place:
    Thing.works = {}
    Thing.starts = 0
    return Place(Thing)


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("read", ["get", "get many", "list", "delete"])
async def test_a_read_shuts_the_gate_unless_concurrency_is_allowed(
    place: Place, allowed: bool, read: str
) -> None:
    place.rows.first = 0
    place.keep({"a": 1})
    entered: list[str] = []

    @work(place, "wake")
    def wake(thing: Thing) -> None:
        entered.append("here")

    @work(place, "read")
    async def reading(thing: Thing) -> None:
        storage = thing.storage
        if read == "list":
            await storage.list(allow_concurrency=allowed)
        elif read == "delete":
            await storage.delete("a", allow_concurrency=allowed)
        else:
            key = "a" if read == "get" else ["a", "b"]
            await storage.get(key, allow_concurrency=allowed)

    await place.stub().do("wake")
    with place.rows.held():
        slow = asyncio.create_task(place.stub().do("read"))
        await turns()
        other = asyncio.create_task(place.stub().do("wake"))
        await turns()
        assert len(entered) == (2 if allowed else 1)
        assert not slow.done()
    await asyncio.gather(slow, other)


async def test_an_unconfirmed_write_holds_nothing_back_and_sync_waits_for_it(
    place: Place,
) -> None:
    synced: list[str] = []

    @work(place, "loose")
    def loose(thing: Thing) -> str:
        thing.storage.put("a", 1, allow_unconfirmed=True)
        return "said"

    @work(place, "sync")
    async def sync(thing: Thing) -> None:
        await thing.storage.sync()
        synced.append("done")

    place.lane.hold()
    assert await place.stub().do("loose") == "said"
    assert place.stored() == {}
    syncing = asyncio.create_task(place.stub().do("sync"))
    await turns()
    assert synced == []
    place.lane.release()
    await syncing
    assert place.stored() == {"a": "1"}


async def test_a_confirmed_write_after_an_unconfirmed_one_holds_back_and_brings_both(
    place: Place,
) -> None:
    @work(place, "both")
    def both(thing: Thing) -> None:
        thing.storage.put("a", 1, allow_unconfirmed=True)
        thing.storage.put("b", 2)

    place.lane.hold()
    said = asyncio.create_task(place.stub().do("both"))
    await turns()
    assert not said.done()
    place.lane.release()
    await said
    assert len(place.lane.commits) == 1
    assert place.stored() == {"a": "1", "b": "2"}


async def test_an_unconfirmed_write_that_fails_resets_the_object(place: Place) -> None:
    @work(place, "loose")
    def loose(thing: Thing) -> None:
        thing.storage.delete("a", allow_unconfirmed=True)
        thing.storage.put("a", 1, allow_unconfirmed=True)

    @work(place, "wait")
    async def wait(thing: Thing) -> None:
        await asyncio.Event().wait()

    place.lane.hold()
    await place.stub().do("loose")
    waiting = asyncio.create_task(place.stub().do("wait"))
    await turns()
    place.lane.fail(CommitFailed("refused"))
    with pytest.raises(ResetError, match="refused"):
        await waiting
    assert await place.stub().read("a") is None


async def test_an_object_is_not_evicted_before_its_unconfirmed_writes_are_durable(
    place: Place,
) -> None:
    @work(place, "loose")
    def loose(thing: Thing) -> None:
        thing.storage.put("a", 1, allow_unconfirmed=True)

    place.lane.hold()
    await place.stub().do("loose")
    await turns()
    assert await place.evict() == 0
    place.lane.release()
    assert await place.evict() == 1


async def test_what_is_not_to_be_cached_is_read_again_each_time(place: Place) -> None:
    place.rows.first = 0
    place.keep({"a": 1, "b": 2})

    @work(place, "read")
    async def read(thing: Thing) -> Any:
        storage = thing.storage
        return [await storage.get("a", no_cache=True), await storage.get("b")]

    @work(place, "write")
    async def write(thing: Thing) -> Any:
        thing.storage.put("c", 3, no_cache=True)
        return await thing.storage.get("c")

    await place.stub().do("read")
    await place.stub().do("read")
    assert place.rows.reads.count("get") == 3
    assert await place.stub().do("write") == 3, "it is in memory until it is durable"
    await turns()
    assert await place.stub().read("c") == 3
    assert place.rows.reads.count("get") == 4


async def test_a_cache_over_its_limit_lets_go_of_what_is_durable() -> None:
    Thing.works = {}
    place = Place(Thing, cache_bytes=20_000)

    @work(place, "fill")
    async def fill(thing: Thing) -> None:
        for number in range(100):
            thing.storage.put(f"k{number:03}", "x" * 1000)
            if number % 10 == 9:
                await thing.storage.sync()

    @work(place, "sum")
    async def total(thing: Thing) -> int:
        length, after = 0, ""
        while page := await thing.storage.list(start_after=after, limit=30):
            length += sum(map(len, page.values()))
            after = list(page)[-1]
        return length

    await place.stub().do("fill")
    assert place.budget.total <= 20_000
    assert await place.stub().do("sum") == 100_000
    assert await place.stub().read("k000") == "x" * 1000
    assert await place.evict() == 1
    assert place.budget.total == 0


async def test_a_value_over_the_limit_is_refused_and_nothing_is_written() -> None:
    Thing.works = {}
    place = Place(Thing, max_value_bytes=100)

    @work(place, "write")
    def write(thing: Thing) -> None:
        thing.storage.put("fits", "x" * 98)
        with pytest.raises(ValueTooLarge, match="'b': a value is at most 100 bytes"):
            thing.storage.put({"a": 1, "b": "é" * 50})
        with pytest.raises(ValueTooLarge, match="has 101"):
            thing.storage.space("sdk").put_raw("state", "x" * 101)

    await place.stub().do("write")
    assert list(place.stored()) == ["fits"]


async def test_what_is_rolled_back_leaves_nothing_and_raises_nothing(
    place: Place,
) -> None:
    @work(place, "no")
    async def no(thing: Thing) -> Any:
        thing.storage.put("before", 1)
        async with thing.storage.transaction() as txn:
            thing.storage.put("before", 2)
            thing.storage.put("inside", 1)
            txn.rollback()
            with pytest.raises(TransactionEnded):
                thing.storage.put("late", 1)
            with pytest.raises(TransactionEnded):
                await thing.storage.sql("SELECT 1")
        thing.storage.put("after", 1)
        return await thing.storage.list()

    assert await place.stub().do("no") == {"after": 1, "before": 1}
    assert place.stored() == {"after": "1", "before": "1"}


@pytest.mark.parametrize("sql", [True, False])
@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("order", ["inside first", "beside first"])
async def test_an_alarm_set_beside_a_transaction_is_as_if_it_came_before_or_after(
    place: Place, sql: bool, fails: bool, order: str
) -> None:
    entered, wrote = asyncio.Event(), asyncio.Event()
    mine, its = Alarm(1000.0), Alarm(2000.0)

    @work(place, "beside")
    async def beside(thing: Thing) -> None:
        await entered.wait()
        place_alarm(thing).set(mine)
        wrote.set()

    @work(place, "inside")
    async def inside(thing: Thing) -> None:
        async with thing.storage.transaction():
            if sql:
                await thing.storage.sql("ok")
            if order == "inside first":
                place_alarm(thing).set(its)
            entered.set()
            await wrote.wait()
            if order == "beside first":
                place_alarm(thing).set(its)
            if fails:
                raise RuntimeError("no")

    @work(place, "due")
    def due(thing: Thing) -> Any:
        return place_alarm(thing).due.due

    before = asyncio.create_task(place.stub().do("beside"))
    await turns()
    transaction = asyncio.create_task(place.stub().do("inside"))
    await asyncio.wait([before, transaction])
    before.result()
    expected = its if order == "beside first" and not fails else mine
    assert await place.stub().do("due") == expected.due
    await turns()
    object_id = place.things.id_from_name("a").value
    assert place.rows.alarms[object_id] == expected


def place_alarm(thing: Thing) -> Any:
    return thing.storage._rows.alarm
