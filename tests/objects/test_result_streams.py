"""Methods that yield one result after the other; on scripted floors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable import RemoteError, Unavailable, ValueRefused
from tests.objects.scripted import Place, turns
from tests.objects.thing import Thing


class Counting(Thing):
    log: list[Any] = []

    async def numbers(self, count: int, fail_at: int = -1) -> AsyncIterator[Any]:
        try:
            for number in range(count):
                if number == fail_at:
                    raise KeyError("enough")
                self.log.append(number)
                self.storage.put("sent", number)
                yield number, {number}
        finally:
            self.log.append("closed")

    async def later(self, count: int) -> AsyncIterator[Any]:
        await self.storage.get("sent")
        return self.numbers(count)

    async def odd(self) -> AsyncIterator[Any]:
        yield 1
        yield object()


@pytest.fixture
def place() -> Place:
    Counting.works = {}
    Counting.log = []
    return Place(Counting)


@pytest.mark.parametrize("method", ["numbers", "later"])
async def test_results_come_in_order_as_copies_awaited_or_not(
    place: Place, method: str
) -> None:
    call = getattr(place.stub(), method)
    expected = [(0, {0}), (1, {1}), (2, {2})]
    assert [result async for result in call(3)] == expected
    assert [result async for result in await call(3)] == expected
    assert Counting.log[-1] == "closed"


async def test_each_result_waits_for_its_commit_and_holds_off_eviction(
    place: Place,
) -> None:
    results = await place.stub().numbers(3)
    assert await anext(results) == (0, {0})
    place.lane.hold()
    reading = asyncio.ensure_future(anext(results))
    await turns()
    assert not reading.done()
    assert await place.evict() == 0
    place.lane.release()
    assert await reading == (1, {1})
    assert [result async for result in results] == [(2, {2})]
    await turns()
    assert await place.evict() == 1


async def test_what_it_raises_comes_behind_what_it_yielded(place: Place) -> None:
    stub = place.stub()
    results = aiter(stub.numbers(3, fail_at=2))
    got = [await anext(results), await anext(results)]
    with pytest.raises(RemoteError, match="enough") as caught:
        await anext(results)
    assert got == [(0, {0}), (1, {1})]
    assert (caught.value.remote, caught.value.name) == (True, "KeyError")
    assert caught.value.durable_object_id == str(stub.id)
    assert Counting.log == [0, 1, "closed"]


async def test_who_leaves_early_ends_it(place: Place) -> None:
    async for _ in place.stub().numbers(1000):
        break
    await turns()
    assert Counting.log == [0, "closed"]
    assert await place.evict() == 1


async def test_one_that_is_never_read_holds_nothing(place: Place) -> None:
    results = await place.stub().numbers(3)
    del results
    await turns()
    assert Counting.log == []
    assert await place.evict() == 1


async def test_it_ends_with_its_activation(place: Place) -> None:
    results = await place.stub().numbers(3)
    await anext(results)
    place.dispatcher.reset_all(Unavailable("lane lost"))
    with pytest.raises(Unavailable):
        await anext(results)
    assert Counting.log == [0, "closed"], "no further code of it ran"


async def test_a_result_that_cannot_be_sent_is_named(place: Place) -> None:
    results = await place.stub().odd()
    assert await anext(results) == 1
    with pytest.raises(ValueRefused, match="value is a object"):
        await anext(results)


async def test_iterating_over_one_result_says_what_is_wrong(place: Place) -> None:
    with pytest.raises(TypeError, match="returned int, not an async iterator"):
        async for _ in place.stub().increment():
            pass


async def test_a_call_is_a_coroutine_for_tasks_and_gather(place: Place) -> None:
    stub = place.stub()
    assert await asyncio.create_task(stub.increment()) == 1
    async with asyncio.TaskGroup() as group:
        second = group.create_task(stub.increment())
    assert second.result() == 2
    assert await asyncio.wait_for(stub.increment(), 5) == 3
    assert [*await asyncio.gather(stub.increment(), stub.read())] == [4, 4]
