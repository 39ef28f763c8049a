"""What the kit's clock waits for, and what not: nodes that come and go, streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from agents import Agent, callable
from durable import AlarmInfo, DurableObject, Request, Response, now
from durable.testing import Fleet
from durable.testing.clock import START

MakeFleet = Callable[..., Awaitable[Fleet]]


class Bell(DurableObject):
    """Says when it rang, whether or not that became durable."""

    rung: ClassVar[list[tuple[str, float]]] = []
    # So many more times it fails.
    failures: ClassVar[int] = 0

    async def ring_in(self, seconds: float) -> None:
        await self.ctx.storage.set_alarm(timedelta(seconds=seconds))

    async def alarm(self, info: AlarmInfo) -> None:
        self.rung.append((str(self.ctx.id.name), (now() - START).total_seconds()))
        self.ctx.storage.put("rung", True)
        if Bell.failures:
            Bell.failures -= 1
            raise ValueError("no clapper")

    async def has_rung(self) -> Any:
        return await self.ctx.storage.get("rung")


class Feed(Agent[Any, Any]):
    """Streams what its schedules say, and lets others wait for it."""

    initial_state = {"ticks": 0}

    def on_start(self) -> None:
        self.ticks: asyncio.Queue[bytes] = asyncio.Queue()

    @callable()
    async def tick_in(self, seconds: float) -> None:
        await self.schedule(seconds, "tick")

    def tick(self) -> None:
        self.set_state({"ticks": self.state["ticks"] + 1})
        self.ticks.put_nowait(b"tick\n")

    async def next_tick(self) -> str:
        return (await self.ticks.get()).decode()

    async def stay_awake_for(self, seconds: float) -> None:
        self.release = self.keep_alive()
        await self.schedule(seconds, "sleep_again")

    def sleep_again(self) -> None:
        self.release()

    async def on_request(self, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"hello\n"
            while True:
                yield await self.ticks.get()

        return Response(body())


@pytest.fixture
def durable_app() -> list[type[DurableObject]]:
    Bell.rung.clear()
    Bell.failures = 0
    return [Bell, Feed]


def bells(fleet: Fleet, count: int) -> list[Any]:
    return [fleet.env.Bell.get_by_name(f"bell-{n}") for n in range(count)]


@pytest.mark.parametrize("change", ["crash", "stop", "start"])
async def test_all_ring_at_their_time_when_a_node_has_just_gone_or_come(
    make_fleet: MakeFleet, change: str
) -> None:
    fleet = await make_fleet(nodes=2)
    await asyncio.gather(*(bell.ring_in(60) for bell in bells(fleet, 100)))
    if change == "start":
        await fleet.start_node()
    else:
        await getattr(fleet.nodes[0], change)()
    await fleet.clock.advance(minutes=2)
    assert len(Bell.rung) == 100
    assert {moment for _, moment in Bell.rung} == {60.0}
    assert all([await bell.has_rung() for bell in bells(fleet, 3)])


async def test_time_passes_without_nodes_and_the_next_one_catches_up(
    fleet: Fleet,
) -> None:
    # So many that they are begun little by little.
    await asyncio.gather(*(bell.ring_in(60) for bell in bells(fleet, 300)))
    await fleet.nodes[0].stop()
    with pytest.raises(RuntimeError, match="no node runs"):
        _ = fleet.env
    await fleet.clock.advance(hours=3)
    assert Bell.rung == []
    await fleet.start_node()
    await fleet.clock.advance(seconds=1)
    assert len(Bell.rung) == 300
    assert all(3 * 3600 <= moment <= 3 * 3600 + 1 for _, moment in Bell.rung)


async def test_an_alarm_whose_commit_failed_rings_again_by_the_clock(
    fleet: Fleet,
) -> None:
    (bell,) = bells(fleet, 1)
    await bell.ring_in(10)
    fleet.fail_commit(bell)
    await fleet.clock.advance(seconds=11)
    assert Bell.rung == [("bell-0", 10.0)]
    await fleet.clock.advance(seconds=5)
    assert len(Bell.rung) == 2
    assert 12 <= Bell.rung[1][1] <= 12.5
    assert await bell.has_rung()


async def test_an_alarm_that_raises_is_tried_again_by_the_clock(fleet: Fleet) -> None:
    (bell,) = bells(fleet, 1)
    Bell.failures = 3
    await bell.ring_in(10)
    await fleet.clock.advance(minutes=1)
    moments = [moment for _, moment in Bell.rung]
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    assert (moments[0], len(moments)) == (10, 4)
    for n, pause in enumerate(pauses):
        assert 2 << n <= pause <= (2 << n) * 1.25
    assert await bell.has_rung()


async def test_a_schedule_whose_commit_failed_runs_again_by_the_clock(
    fleet: Fleet,
) -> None:
    feed = fleet.env.Feed.get_by_name("a")
    client = await fleet.client("feed", "a")
    await feed.tick_in(10)
    # The first commit says that the run has begun, the second one has its result.
    fleet.fail_commit(feed, nth=2)
    await fleet.clock.advance(minutes=1)
    assert client.state == {"ticks": 1}


async def test_a_scripted_failure_outlives_the_sleep_of_its_object(
    fleet: Fleet,
) -> None:
    (bell,) = bells(fleet, 1)
    await bell.ring_in(10)
    fleet.fail_commit(bell, nth=1)
    await fleet.evict(bell)
    await fleet.clock.advance(seconds=10)
    assert await bell.has_rung() is None
    with pytest.raises(ValueError, match="nth=1"):
        fleet.fail_commit(bell, nth=0)


async def test_an_open_stream_goes_on_while_the_clock_is_moved(fleet: Fleet) -> None:
    http = await fleet.http()
    async with http.get("/agents/feed/a") as response:
        assert await response.content.readline() == b"hello\n"
        await fleet.env.Feed.get_by_name("a").tick_in(60)
        for _ in range(3):
            await fleet.clock.advance(minutes=1)
        assert await response.content.readline() == b"tick\n"


async def test_a_call_that_waits_for_the_clock_is_answered_by_it(fleet: Fleet) -> None:
    feed = fleet.env.Feed.get_by_name("a")
    waiting = asyncio.create_task(feed.next_tick())
    await feed.tick_in(60)
    await fleet.clock.advance(seconds=59)
    assert not waiting.done()
    await fleet.clock.advance(seconds=1)
    assert await waiting == "tick\n"


async def test_keep_alive_holds_up_nothing(fleet: Fleet) -> None:
    feed = fleet.env.Feed.get_by_name("a")
    await feed.stay_awake_for(3600)
    await fleet.clock.advance(hours=1)
    assert await fleet.evict(feed)
