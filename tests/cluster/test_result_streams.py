"""Results that one agent yields to another: on one worker, and across workers."""

from __future__ import annotations

import asyncio
import signal

import pytest

from server.link.streams import WINDOW_BYTES
from tests.cluster.fleet import Fleet, result
from tests.server.nodes import Caller

LARGE = 100_000


class Pair:
    """A room that follows, and one that yields."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    async def start(self, *, apart: bool) -> Caller:
        self.fleet.app = "tests/cluster/stream_app.py"
        one = await self.fleet.start("worker")
        self.owner = await self.fleet.start("worker") if apart else one
        front = await self.fleet.client(await self.fleet.start("front"))
        near = await self.fleet.room_of(front, one)
        self.far = await self.fleet.room_of(front, self.owner) if apart else near + "x"
        self.watcher = await self.fleet.join(front, self.far)
        return await self.fleet.join(front, near)

    async def made(self, *, closed: int) -> int:
        """How many results were made when so many streams have ended."""
        async with asyncio.timeout(10):
            while True:
                made, ended = result(await self.watcher.reply("seen"))
                if ended == closed:
                    return int(made)


@pytest.fixture(params=[False, True], ids=["one worker", "two workers"])
def apart(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_results_come_in_order_and_slowly_read_ones_are_not_made(
    fleet: Fleet, *, apart: bool
) -> None:
    pair = Pair(fleet)
    caller = await pair.start(apart=apart)
    assert result(await caller.reply("follow", pair.far, 500)) == list(range(500))
    assert result(await caller.reply("follow", pair.far, 9, 2)) == [
        *(0, 1),
        *("enough", True, False),
    ]
    assert await pair.made(closed=2) == 502
    assert result(await caller.reply("first", pair.far, 3 * WINDOW_BYTES)) == 0
    made = await pair.made(closed=3)
    while_paused = result(await caller.reply("pause", pair.far, LARGE))
    assert while_paused - made <= 2 + WINDOW_BYTES // LARGE
    await pair.made(closed=4)


@pytest.mark.parametrize(
    ("how", "said"),
    [(signal.SIGKILL, "LinkLost True"), (signal.SIGTERM, "Unavailable True")],
    ids=["killed", "drained"],
)
async def test_a_stream_whose_owner_goes_ends_with_an_error(
    fleet: Fleet, how: signal.Signals, said: str
) -> None:
    pair = Pair(fleet)
    caller = await pair.start(apart=True)
    waiting = await caller.send_call("wait_for_the_end", pair.far)
    await caller.until("begun")
    pair.owner.process.send_signal(how)
    assert result(await caller.answer(waiting)) == said
