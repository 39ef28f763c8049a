"""Streams of an object, and calls between objects; on scripted floors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import (
    Aborted,
    Deadlock,
    Overloaded,
    RemoteError,
    Request,
    Response,
    StartFailed,
    Unavailable,
    ValueRefused,
)
from tests.objects.scripted import Place, turns
from tests.objects.thing import Thing, work


@pytest.fixture
def place() -> Place:
    Thing.works = {}
    Thing.starts = 0
    return Place(Thing, start_timeout=0.2)


# --- streams


class Streamer(Thing):
    async def fetch(self, request: Request) -> Response:
        async def body() -> Any:
            log = type(self).log
            try:
                for number in range(3):
                    log.append(number)
                    self.storage.put("sent", number)
                    yield str(number)
            finally:
                log.append("closed")

        return Response(body())

    log: list[Any] = []


@pytest.fixture
def streams() -> Place:
    Streamer.works = {}
    Streamer.log = []
    return Place(Streamer)


async def test_each_piece_of_a_stream_waits_for_its_commit(streams: Place) -> None:
    response = await streams.stub().fetch(Request("GET", "http://x/"))
    pieces = response.body
    assert await anext(pieces) == b"0"
    streams.lane.hold()
    reading = asyncio.ensure_future(anext(pieces))
    await turns()
    assert not reading.done()
    assert await streams.evict() == 0
    streams.lane.release()
    assert await reading == b"1"
    assert [piece async for piece in pieces] == [b"2"]
    assert Streamer.log[-1] == "closed"
    await turns()
    assert await streams.evict() == 1


async def test_a_stream_that_nobody_reads_on_is_closed_at_once(streams: Place) -> None:
    response = await streams.stub().fetch(Request("GET", "http://x/"))
    pieces: Any = response.body
    await anext(pieces)
    await pieces.aclose()
    assert Streamer.log == [0, "closed"]
    assert await streams.evict() == 1


async def test_a_stream_ends_with_its_activation(streams: Place) -> None:
    response = await streams.stub().fetch(Request("GET", "http://x/"))
    pieces = response.body
    await anext(pieces)
    streams.dispatcher.reset_all(Unavailable("lane lost"))
    with pytest.raises(Unavailable):
        await anext(pieces)
    assert Streamer.log == [0, "closed"], "no further code of it ran"


async def test_settling_waits_for_a_stream_without_spinning(streams: Place) -> None:
    response = await streams.stub().fetch(Request("GET", "http://x/"))
    pieces = response.body
    await anext(pieces)
    (activation,) = streams.dispatcher.activations()
    settling = asyncio.create_task(activation.settle())
    await turns()
    assert not settling.done()
    assert [piece async for piece in pieces] == [b"1", b"2"]
    await settling


# --- calls


async def test_calls_wait_for_the_callers_commit(place: Place) -> None:
    @work(place, "call")
    async def call(thing: Thing) -> Any:
        thing.storage.put("count", 1)
        return await thing.env.Thing.get_by_name("b").increment()

    place.lane.hold()
    calling = asyncio.create_task(place.stub().do("call"))
    await turns()
    assert len(place.dispatcher) == 1, "the call has not left"
    place.lane.release()
    assert await calling == 1


async def test_an_objects_exception_reaches_its_caller_and_resets_nobody(
    place: Place,
) -> None:
    @work(place, "fail")
    def fail(thing: Thing) -> None:
        raise KeyError("what")

    with pytest.raises(RemoteError, match="what") as caught:
        await place.stub().do("fail")
    assert (caught.value.remote, caught.value.name) == (True, "KeyError")
    with pytest.raises(RemoteError, match="no method 'absent'"):
        await place.stub().absent()
    assert Thing.starts == 1


async def test_the_end_of_a_caller_is_not_the_end_of_whom_it_called(
    place: Place,
) -> None:
    go_on = asyncio.Event()
    log: list[str] = []

    @work(place, "callee")
    async def callee(thing: Thing) -> None:
        await go_on.wait()
        log.append("finished")

    @work(place, "caller")
    async def caller(thing: Thing) -> None:
        await thing.env.Thing.get_by_name("b").do("callee")

    @work(place, "abort")
    def abort(thing: Thing) -> None:
        thing.ctx.abort("enough")

    calling = asyncio.create_task(place.stub().do("caller"))
    await turns()
    with pytest.raises(Aborted):
        await place.stub().do("abort")
    with pytest.raises(Aborted):
        await calling
    go_on.set()
    await turns()
    assert log == ["finished"]


async def test_objects_may_call_each_other_in_a_circle(place: Place) -> None:
    @work(place, "ping")
    async def ping(thing: Thing) -> Any:
        return await thing.env.Thing.get_by_name("b").do("pong")

    @work(place, "pong")
    async def pong(thing: Thing) -> Any:
        return await thing.env.Thing.get_by_name("a").increment()

    assert await place.stub("a").do("ping") == 1


@pytest.mark.parametrize("how", ["critical", "transaction"])
async def test_a_circle_through_a_shut_gate_is_an_error_that_names_it(
    place: Place, how: str
) -> None:
    @work(place, "ping")
    async def ping(thing: Thing) -> Any:
        other = thing.env.Thing.get_by_name("b")
        if how == "critical":
            return await thing.ctx.block_concurrency_while(lambda: other.do("pong"))
        async with thing.storage.transaction():
            return await other.do("pong")

    @work(place, "pong")
    async def pong(thing: Thing) -> Any:
        return await thing.env.Thing.get_by_name("a").increment()

    async with asyncio.timeout(5):
        with pytest.raises(Deadlock, match="a lets nobody in") as raised:
            await place.stub("a").do("ping")
        a, b = (place.things.id_from_name(name) for name in "ab")
        assert f"{a} → {a}" in str(raised.value)
        assert raised.value.durable_object_id == str(a)
        assert str(b) not in str(raised.value), "b would let a's call in"
        assert await place.stub("a").increment() == 1


async def test_too_many_waiting_events_are_refused_as_overload() -> None:
    Thing.works = {}
    place = Place(Thing, max_waiting=3)
    with place.rows.held():
        waiting = [asyncio.create_task(place.stub().increment()) for _ in range(3)]
        await turns()
        with pytest.raises(Overloaded) as caught:
            await place.stub().increment()
        assert caught.value.overloaded
    assert sorted(await asyncio.gather(*waiting)) == [1, 2, 3]


async def test_a_shard_that_is_not_owned_is_unavailable(place: Place) -> None:
    place.owned = False
    with pytest.raises(Unavailable, match="no owner") as caught:
        await place.stub().increment()
    assert caught.value.retryable


async def test_a_self_call_that_the_block_does_not_await_is_no_deadlock(
    place: Place,
) -> None:
    @work(place, "later")
    async def later(thing: Thing) -> Any:
        me = thing.env.Thing.get_by_name("a")

        async def block() -> asyncio.Task[Any]:
            return asyncio.create_task(me.increment())

        return await (await thing.ctx.block_concurrency_while(block))

    assert await place.stub("a").do("later") == 1


async def test_a_deadlock_that_only_time_tells_names_the_waiting_events(
    place: Place,
) -> None:
    @work(place, "gathered")
    async def gathered(thing: Thing) -> Any:
        me = thing.env.Thing.get_by_name("a")

        async def block() -> None:
            await asyncio.gather(me.increment(), me.increment())

        return await thing.ctx.block_concurrency_while(block)

    with pytest.raises(StartFailed, match="2 events waited to enter: a deadlock"):
        await place.stub("a").do("gathered")


async def test_critical_sections_nest_64_deep_at_most(place: Place) -> None:
    @work(place, "nest")
    async def nest(thing: Thing) -> int:
        async def deeper(depth: int) -> int:
            try:
                return await thing.ctx.block_concurrency_while(
                    lambda: deeper(depth + 1)
                )
            except ValueRefused:
                return depth

        return await deeper(0)

    assert await place.stub("a").do("nest") == 64
