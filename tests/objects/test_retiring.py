"""The regular end of an activation: what its hook does is durable, nobody enters."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import Unavailable
from durable.objects import retirement
from tests.objects.scripted import SHARDS, Place, turns
from tests.objects.thing import Thing, work


class Ending(Thing):
    """Counts its ends, and does what a test hands in."""

    async def on_deactivate(self, reason: str) -> None:
        self.works["said"](reason)
        await self.works["end"](self)


@pytest.fixture
def place() -> Place:
    Thing.works = {"end": nothing, "said": lambda _: None}
    Thing.starts = Ending.starts = 0
    return Place(Ending)


async def nothing(thing: Thing) -> None:
    pass


async def gone(place: Place) -> None:
    while place.dispatcher.activations():
        await turns(1)


async def test_what_an_idle_object_writes_at_its_end_is_there_when_it_wakes(
    place: Place,
) -> None:
    reasons: list[str] = []
    Thing.works["said"] = reasons.append

    @work(place, "end")
    async def end(thing: Thing) -> None:
        thing.storage.put("ended", (await thing.storage.get("ended") or 0) + 1)

    await place.stub().increment()
    assert await place.evict() == 1
    assert await place.stub().read("ended") == 1
    assert reasons == ["idle"]
    assert Ending.starts == 2


async def test_an_event_that_comes_meanwhile_waits_for_the_next_instance(
    place: Place,
) -> None:
    go_on = asyncio.Event()

    @work(place, "end")
    async def end(thing: Thing) -> None:
        await go_on.wait()
        thing.storage.put("count", 41)

    await place.stub().increment()
    await place.evict()
    event = asyncio.create_task(place.stub().increment())
    await turns()
    assert not event.done()
    assert Ending.starts == 1
    go_on.set()
    assert await event == 42
    assert Ending.starts == 2


async def test_a_shard_is_handed_over_when_the_hooks_have_ended(place: Place) -> None:
    reasons: list[str] = []
    Thing.works["said"] = reasons.append

    @work(place, "end")
    async def end(thing: Thing) -> None:
        await asyncio.sleep(0)
        thing.storage.put("ended", 1)

    await asyncio.gather(*(place.stub(name).increment() for name in "abc"))
    await place.dispatcher.hand_over(range(SHARDS), 5)
    assert reasons == ["moved"] * 3
    assert place.dispatcher.activations() == []
    assert [place.stored(name)["ended"] for name in "abc"] == ["1"] * 3


async def test_a_hook_that_is_at_it_is_waited_for_by_the_hand_over(
    place: Place,
) -> None:
    go_on = asyncio.Event()

    @work(place, "end")
    async def end(thing: Thing) -> None:
        await go_on.wait()
        thing.storage.put("ended", 1)

    await place.stub().increment()
    await place.evict()
    moving = asyncio.create_task(place.dispatcher.hand_over(range(SHARDS), 5))
    await turns()
    assert not moving.done()
    go_on.set()
    await moving
    assert place.stored()["ended"] == "1"


async def test_a_hook_that_never_ends_is_cut_off(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retirement, "DEACTIVATE_SECONDS", 0.02)

    @work(place, "end")
    async def end(thing: Thing) -> None:
        await asyncio.Event().wait()

    await place.stub().increment()
    await place.evict()
    assert await place.stub().increment() == 2
    assert "on_deactivate was cut off after 0.02 s" in caplog.text


async def test_a_hook_that_raises_is_logged_and_the_object_ends(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    @work(place, "end")
    async def end(thing: Thing) -> None:
        raise RuntimeError("no end")

    await place.stub().increment()
    await place.evict()
    await gone(place)
    assert "on_deactivate failed" in caplog.text
    assert await place.stub().increment() == 2


async def test_a_reset_in_the_hook_ends_it_and_writes_nothing(place: Place) -> None:
    @work(place, "end")
    async def end(thing: Thing) -> None:
        thing.storage.put("ended", 1)
        await asyncio.Event().wait()

    await place.stub().increment()
    place.lane.hold()
    await place.evict()
    await turns()
    place.dispatcher.reset_all(Unavailable("the worker is shutting down"))
    place.lane.release()
    await gone(place)
    assert await place.stub().increment() == 2


async def test_no_hook_runs_when_an_object_aborts(place: Place) -> None:
    reasons: list[str] = []
    Thing.works["said"] = reasons.append

    @work(place, "abort")
    def abort(thing: Thing) -> Any:
        thing.ctx.abort("enough")

    with pytest.raises(Exception, match="enough"):
        await place.stub().do("abort")
    await turns()
    assert reasons == []
