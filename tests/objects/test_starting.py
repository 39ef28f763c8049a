"""How an object starts, and the classic race; on scripted floors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from durable import (
    ResetError,
    StartFailed,
    Unavailable,
)
from tests.objects.scripted import Place, turns
from tests.objects.thing import Thing, work


@pytest.fixture
def place() -> Place:
    Thing.works = {}
    Thing.starts = 0
    return Place(Thing, start_timeout=0.2)


# --- starting


async def test_events_that_come_together_make_one_activation(place: Place) -> None:
    results = await asyncio.gather(*(place.stub().increment() for _ in range(5)))
    assert sorted(results) == [1, 2, 3, 4, 5]
    assert (Thing.starts, place.rows.reads) == (1, ["load"])


async def test_a_constructor_that_raises_fails_the_event_and_the_next_tries_again(
    place: Place,
) -> None:
    @work(place, "start")
    def start(thing: Thing) -> None:
        if Thing.starts == 1:
            raise RuntimeError("not today")

    with pytest.raises(StartFailed, match="not today"):
        await place.stub().increment()
    assert await place.stub().increment() == 1


async def test_a_critical_section_that_raises_resets_with_its_error(
    place: Place,
) -> None:
    @work(place, "start")
    def start(thing: Thing) -> None:
        async def begin() -> None:
            await asyncio.sleep(0)
            if Thing.starts == 1:
                raise RuntimeError("not today")

        thing.ctx.block_concurrency_while(begin)

    events = [asyncio.create_task(place.stub().increment()) for _ in range(3)]
    for event in events:
        with pytest.raises(StartFailed, match="not today"):
            await event
    assert await place.stub().increment() == 1


async def test_a_timeout_that_the_code_raised_is_not_taken_for_the_limit(
    place: Place,
) -> None:
    @work(place, "start")
    def start(thing: Thing) -> None:
        async def begin() -> None:
            raise TimeoutError("the weather service is slow")

        thing.ctx.block_concurrency_while(begin)

    with pytest.raises(StartFailed, match="the weather service is slow"):
        await place.stub().increment()


async def test_a_start_over_the_limit_is_reset_and_the_next_event_tries_again(
    place: Place,
) -> None:
    @work(place, "start")
    def start(thing: Thing) -> None:
        async def begin() -> None:
            if Thing.starts == 1:
                await asyncio.Event().wait()

        thing.ctx.block_concurrency_while(begin)

    with pytest.raises(StartFailed, match=r"blocked for over 0\.2 s"):
        await place.stub().increment()
    assert await place.stub().increment() == 1


async def test_a_critical_section_lets_nobody_in_and_gives_its_result(
    place: Place,
) -> None:
    log: list[str] = []
    go_on = asyncio.Event()

    @work(place, "block")
    async def block(thing: Thing) -> Any:
        async def inside() -> str:
            log.append("inside")
            await go_on.wait()
            log.append("out")
            return "result"

        result = await thing.ctx.block_concurrency_while(inside)
        log.append("after")
        return result

    @work(place, "other")
    def other(thing: Thing) -> None:
        log.append("other")

    blocking = asyncio.create_task(place.stub().do("block"))
    await turns()
    entering = asyncio.create_task(place.stub().do("other"))
    await turns()
    go_on.set()
    assert await blocking == "result"
    await entering
    assert log == ["inside", "out", "after", "other"]


async def test_a_cancelled_critical_section_does_not_shut_the_gate_for_ever(
    place: Place,
) -> None:
    @work(place, "block")
    async def block(thing: Thing) -> None:
        running = thing.ctx.block_concurrency_while(asyncio.Event().wait)
        running.cancel()
        await asyncio.wait([running])

    @work(place, "cut")
    async def cut(thing: Thing) -> None:
        async with asyncio.timeout(0.01):
            await thing.ctx.block_concurrency_while(asyncio.Event().wait)

    await place.stub().do("block")
    assert await place.stub().increment() == 1
    with pytest.raises(ResetError):
        await place.stub().do("cut")
    assert await place.stub().increment() == 2


async def test_a_failed_first_read_is_retryable_and_tried_again(place: Place) -> None:
    place.rows.failure = Unavailable("no Postgres")
    with pytest.raises(Unavailable):
        await place.stub().increment()
    place.rows.failure = None
    assert await place.stub().increment() == 1


async def test_an_object_reached_by_its_ids_text_knows_its_name(place: Place) -> None:
    @work(place, "name")
    def name(thing: Thing) -> Any:
        return thing.ctx.id.name

    await place.stub("Ada").increment()
    assert await place.evict() == 1
    text = str(place.things.id_from_name("Ada"))
    stub = place.things.get(place.things.id_from_string(text))
    assert await stub.do("name") == "Ada"


# --- the classic race


@pytest.mark.parametrize("cold", [True, False])
async def test_read_change_write_of_many_events_loses_no_update(
    place: Place, cold: bool
) -> None:
    place.rows.first = 0 if cold else 64
    place.keep({"count": 0})
    await asyncio.gather(*(place.stub().increment() for _ in range(100)))
    assert place.stored() == {"count": "100"}


async def read_one_after_the_other(storage: Any) -> Any:
    return await storage.get("a"), await storage.get("b")


async def read_gathered(storage: Any) -> Any:
    return await asyncio.gather(storage.get("a"), storage.get("b"))


async def read_after_a_deletion(storage: Any) -> Any:
    await storage.delete("junk")
    return await storage.get("a"), await storage.get("b")


@pytest.mark.parametrize(
    "read", [read_one_after_the_other, read_gathered, read_after_a_deletion]
)
async def test_nobody_enters_between_reads_however_they_are_awaited(
    place: Place, read: Callable[[Any], Awaitable[Any]]
) -> None:
    place.rows.first = 0
    place.keep({"a": 0, "b": 0, "junk": 1})

    @work(place, "both")
    async def both(thing: Thing) -> None:
        a, b = await read(thing.storage)
        thing.storage.put({"a": a + 1, "b": b + 1})

    # Two: of cold reads. What the cache answers doesn't suspend by itself.
    await asyncio.gather(*(place.stub().do("both") for _ in range(2)))
    assert place.stored() | {"junk": ""} == {"a": "2", "b": "2", "junk": ""}


async def test_with_a_foreign_await_in_between_updates_are_lost(place: Place) -> None:
    @work(place, "late")
    async def late(thing: Thing) -> None:
        count = await thing.storage.get("count") or 0
        await turns()
        thing.storage.put("count", count + 1)

    await asyncio.gather(*(place.stub().do("late") for _ in range(100)))
    assert int(place.stored()["count"]) < 100
