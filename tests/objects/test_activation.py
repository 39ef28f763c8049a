"""The life of an activation: start, run, reset, abort, end; on scripted floors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from durable import (
    Aborted,
    DurableObject,
    Overloaded,
    RemoteError,
    Request,
    ResetError,
    Response,
    StartFailed,
    Unavailable,
)
from durable.domain.errors import CommitFailed, CommitUnknown
from tests.objects.scripted import Place, turns


class Thing(DurableObject):
    """Does what a test hands in: calls are copied, so the work waits in ``works``."""

    works: dict[str, Callable[[Any], Any]] = {}
    starts = 0

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        type(self).starts += 1
        self.storage = ctx.storage
        if "start" in self.works:
            self.works["start"](self)

    def do(self, what: str) -> Any:
        return self.works[what](self)

    async def increment(self) -> int:
        count = (await self.storage.get("count") or 0) + 1
        await self.storage.put("count", count)
        return int(count)

    async def read(self, key: str = "count") -> Any:
        return await self.storage.get(key)


@pytest.fixture
def place() -> Place:
    Thing.works = {}
    Thing.starts = 0
    return Place(Thing, start_timeout=0.2)


def work(place: Place, name: str) -> Callable[[Callable[[Any], Any]], Any]:
    """Decorates what ``stub.do(name)`` runs inside the object."""

    def keep(fn: Callable[[Any], Any]) -> Any:
        Thing.works[name] = fn
        return fn

    return keep


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
    assert place.evict() == 1
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


# --- commits


async def test_nothing_leaves_before_its_commit_is_acknowledged(place: Place) -> None:
    await place.stub().increment()
    place.lane.hold()
    calls = [asyncio.create_task(place.stub().increment()) for _ in range(3)]
    await turns()
    assert not any(call.done() for call in calls)
    reading = asyncio.create_task(place.stub().read())
    await turns()
    assert not reading.done(), "a read of what isn't durable is held back, too"
    place.lane.release()
    assert await asyncio.gather(*calls) == [2, 3, 4]
    assert await reading == 4


@pytest.mark.parametrize("landed", [True, False])
async def test_a_lost_acknowledgement_resets_and_the_next_reads_what_is_there(
    place: Place, landed: bool
) -> None:
    await place.stub().increment()
    place.lane.hold()
    calls = [asyncio.create_task(place.stub().increment()) for _ in range(2)]
    await turns()
    place.lane.lose(landed=landed)
    for call in calls:
        with pytest.raises(CommitUnknown) as caught:
            await call
        assert caught.value.retryable
        assert caught.value.durable_object_reset
    assert await place.stub().read() == (3 if landed else 1)
    assert Thing.starts == 2
    assert place.rows.drains == 1, "an unknown commit is outwaited before it is read"


async def test_a_refused_commit_drops_what_was_said_and_what_gathered_since(
    place: Place,
) -> None:
    await place.stub().increment()
    place.lane.hold()
    first = asyncio.create_task(place.stub().increment())
    await turns()
    second = asyncio.create_task(place.stub().increment())
    await turns()
    place.lane.fail(CommitFailed("refused"))
    for call in (first, second):
        with pytest.raises(CommitFailed):
            await call
    await turns()
    assert await place.stub().read() == 1
    assert len(place.lane.commits) == 1


async def test_writes_without_another_await_in_between_are_one_commit(
    place: Place,
) -> None:
    @work(place, "write")
    async def write(thing: Thing) -> None:
        await thing.storage.put("a", 1)
        await thing.storage.put({"b": 2, "c": 3})
        await thing.storage.delete("a")
        await thing.storage.put("d", 4)

    await place.stub().do("write")
    assert len(place.lane.commits) == 1
    assert place.stored() == {"b": "2", "c": "3", "d": "4"}


async def test_sync_returns_when_all_is_durable(place: Place) -> None:
    done: list[str] = []

    @work(place, "sync")
    async def sync(thing: Thing) -> None:
        thing.storage.put("a", 1)
        await thing.storage.sync()
        done.append("synced")

    place.lane.hold()
    syncing = asyncio.create_task(place.stub().do("sync"))
    await turns()
    assert done == []
    place.lane.release()
    await syncing
    assert done == ["synced"]


# --- abort and reset


async def test_abort_loses_what_was_not_written_and_gives_callers_the_reason(
    place: Place,
) -> None:
    @work(place, "abort")
    async def abort(thing: Thing) -> None:
        thing.storage.put("count", 99)
        thing.ctx.abort("enough")

    @work(place, "wait")
    async def wait(thing: Thing) -> None:
        await asyncio.Event().wait()

    await place.stub().increment()
    waiting = asyncio.create_task(place.stub().do("wait"))
    await turns()
    for call in (place.stub().do("abort"), waiting):
        with pytest.raises(Aborted, match="enough"):
            await call
    await turns()
    assert await place.stub().read() == 1
    assert place.stored() == {"count": "1"}


async def test_the_next_activation_outwaits_a_commit_that_was_under_way(
    place: Place,
) -> None:
    """Else it would go on with what was stored before, and undo the late commit."""

    @work(place, "abort")
    def abort(thing: Thing) -> None:
        thing.ctx.abort("enough")

    await place.stub().increment()
    place.lane.hold()
    cut = asyncio.create_task(place.stub().increment())
    await turns()
    with pytest.raises(Aborted):
        await place.stub().do("abort")
    with pytest.raises(Aborted):
        await cut
    following = asyncio.create_task(place.stub().increment())
    await turns()
    assert place.rows.reads == ["load"]
    place.lane.release()
    assert await following == 3
    assert place.stored() == {"count": "3"}


async def test_an_activation_does_not_wait_for_ever_for_an_earlier_commit(
    place: Place,
) -> None:
    @work(place, "abort")
    def abort(thing: Thing) -> None:
        thing.ctx.abort("enough")

    await place.stub().increment()
    place.lane.hold()
    cut = asyncio.create_task(place.stub().increment())
    await turns()
    with pytest.raises(Aborted):
        await place.stub().do("abort")
    await asyncio.wait([cut])
    with pytest.raises(Unavailable, match="earlier commit"):
        await place.stub().read()
    place.lane.release()
    assert await place.stub().read() == 2


async def test_a_handler_that_goes_on_after_a_reset_can_write_nothing(
    place: Place,
) -> None:
    errors: list[Exception] = []

    @work(place, "stubborn")
    async def stubborn(thing: Thing) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                thing.storage.put("late", 1)
            except ResetError as error:
                errors.append(error)
            raise

    await place.stub().increment()
    running = asyncio.create_task(place.stub().do("stubborn"))
    await turns()
    place.dispatcher.reset_all(Unavailable("lane lost"))
    with pytest.raises(Unavailable):
        await running
    await turns()
    assert place.stored() == {"count": "1"}
    assert not errors, "the reason is the reset's own"


async def test_lane_loss_while_an_object_starts_fails_its_events(place: Place) -> None:
    with place.rows.held():
        events = [asyncio.create_task(place.stub().increment()) for _ in range(3)]
        await turns()
        place.dispatcher.reset_all(Unavailable("lane lost"))
        for event in events:
            with pytest.raises(Unavailable):
                await event
    assert await place.stub().increment() == 1


# --- eviction


async def test_an_idle_object_is_evicted_and_wakes_with_what_it_wrote(
    place: Place,
) -> None:
    await place.stub().increment()
    assert place.evict() == 1
    assert len(place.dispatcher) == 0
    assert await place.stub().increment() == 2
    assert Thing.starts == 2


async def test_what_is_pending_holds_off_eviction(place: Place) -> None:
    done = asyncio.Event()

    @work(place, "later")
    def later(thing: Thing) -> None:
        thing.ctx.wait_until(done.wait())

    await place.stub().do("later")
    assert place.evict() == 0
    done.set()
    await turns()
    assert place.evict() == 1
    await place.stub().increment()
    place.lane.hold()
    writing = asyncio.create_task(place.stub().increment())
    await turns()
    assert place.evict() == 0
    place.lane.release()
    await writing
    place.lane.fresh = False
    reading = asyncio.create_task(place.stub().read())
    await turns()
    assert place.evict() == 0
    place.lane.heard()
    assert await reading == 2
    assert place.evict() == 1


async def test_a_failing_wait_until_is_logged_and_harms_nobody(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    @work(place, "later")
    def later(thing: Thing) -> str:
        async def fail() -> None:
            raise RuntimeError("later failed")

        thing.ctx.wait_until(fail())
        return "answered"

    assert await place.stub().do("later") == "answered"
    await turns()
    assert "background task failed" in caplog.text
    assert await place.stub().increment() == 1
    assert Thing.starts == 1


async def test_settling_returns_when_all_is_done_also_if_a_commit_fails(
    place: Place,
) -> None:
    place.lane.hold()
    call = asyncio.create_task(place.stub().increment())
    await turns()
    settling = [
        asyncio.create_task(activation.settle())
        for activation in place.dispatcher.activations()
    ]
    await turns()
    assert not settling[0].done()
    place.lane.fail(CommitFailed("refused"))
    await asyncio.gather(*settling)
    with pytest.raises(CommitFailed):
        await call


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
    assert streams.evict() == 0
    streams.lane.release()
    assert await reading == b"1"
    assert [piece async for piece in pieces] == [b"2"]
    assert Streamer.log[-1] == "closed"
    await turns()
    assert streams.evict() == 1


async def test_a_stream_that_nobody_reads_on_is_closed_at_once(streams: Place) -> None:
    response = await streams.stub().fetch(Request("GET", "http://x/"))
    pieces: Any = response.body
    await anext(pieces)
    await pieces.aclose()
    assert Streamer.log == [0, "closed"]
    assert streams.evict() == 1


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
async def test_a_circle_through_a_shut_gate_ends_with_an_error(
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
        with pytest.raises((StartFailed, ResetError), match=r"over 0\.2 s"):
            await place.stub("a").do("ping")
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
