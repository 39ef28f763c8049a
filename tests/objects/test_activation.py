"""Commits, aborts, resets and eviction of an activation; on scripted floors."""

from __future__ import annotations

import asyncio

import pytest

from durable import (
    Aborted,
    ResetError,
    Unavailable,
)
from durable.domain.errors import CommitFailed, CommitUnknown
from tests.objects.scripted import Place, turns
from tests.objects.thing import Thing, work


@pytest.fixture
def place() -> Place:
    Thing.works = {}
    Thing.starts = 0
    return Place(Thing, start_timeout=0.2)


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
    assert await place.evict() == 1
    assert len(place.dispatcher) == 0
    assert await place.stub().increment() == 2
    assert Thing.starts == 2


async def test_what_is_pending_holds_off_eviction(place: Place) -> None:
    done = asyncio.Event()

    @work(place, "later")
    def later(thing: Thing) -> None:
        thing.ctx.wait_until(done.wait())

    await place.stub().do("later")
    assert await place.evict() == 0
    done.set()
    await turns()
    assert await place.evict() == 1
    await place.stub().increment()
    place.lane.hold()
    writing = asyncio.create_task(place.stub().increment())
    await turns()
    assert await place.evict() == 0
    place.lane.release()
    await writing
    place.lane.fresh = False
    reading = asyncio.create_task(place.stub().read())
    await turns()
    assert await place.evict() == 0
    place.lane.heard()
    assert await reading == 2
    assert await place.evict() == 1


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
