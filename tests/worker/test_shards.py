"""Shards that come and go, on a real Postgres: placement, hand-over, a lost lane."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from durable import DurableError, Unavailable
from durable.domain import ownership_pace
from durable.domain.errors import Moved
from durable.domain.placement import Placement
from durable.domain.writes import Claim
from durable.store import registry
from durable.store.database import Database
from durable.testing.databases import SHARDS
from durable.worker.worker import ShardSeams
from tests.store.lanes import session, terminate, until
from tests.worker.workers import Counter, Opened, worker


class Remembering(Counter):
    """Also counts in memory, and has handlers that end when the test says so."""

    seen = 0
    begun: asyncio.Event
    go_on: asyncio.Event

    async def see(self) -> int:
        self.seen += 1
        return self.seen

    async def slow_increment(self) -> int:
        type(self).begun.set()
        await type(self).go_on.wait()
        return await self.increment()

    async def call_me(self, name: str) -> int:
        type(self).begun.set()
        await type(self).go_on.wait()
        stub: Any = self.env.Remembering.get_by_name(name)
        return int(await stub.increment())


@pytest.fixture(autouse=True)
def events() -> None:
    Remembering.begun, Remembering.go_on = asyncio.Event(), asyncio.Event()


async def owned_again(place: Opened) -> None:
    async with asyncio.timeout(10):
        while place.worker.shards.owned < SHARDS:
            await place.shard_map.change()


async def test_shards_move_to_a_newcomer_with_all_that_was_written(
    database_url: str,
) -> None:
    async with worker(database_url) as first:
        names = {first.shard(f"n{n}"): f"n{n}" for n in range(500)}
        await asyncio.gather(*(first.stub(n).increment() for n in names.values()))
        async with worker(database_url) as second:

            async def has_some() -> bool:
                return second.worker.shards.owned >= 32

            await until(has_some)
            moved = second.worker.shards.owned_shards()
            assert not set(moved) & set(first.worker.shards.owned_shards())
            counted = [names[shard] for shard in moved if shard in names]
            assert [await second.stub(name).increment() for name in counted] == [
                2 for _ in counted
            ]
            gone = first.things.id_from_name(counted[0])
            with pytest.raises(Moved):
                await first.worker.dispatcher.call(gone, "increment", (), {}, None)
        await owned_again(first)
        assert await first.stub(counted[0]).read() == 2


async def test_without_a_link_a_second_worker_stands_by_until_the_first_has_gone(
    database_url: str,
) -> None:
    async with AsyncExitStack() as stack:
        first = worker(database_url, link_address=None)
        owner = await first.__aenter__()
        assert await owner.stub("n").increment() == 1
        standing_by = await stack.enter_async_context(
            worker(database_url, link_address=None)
        )
        assert standing_by.worker.shards.owned == 0
        # Nor will it get any: all agree on whose they are.
        async with Database(database_url, limit=2, size=1, name="test") as database:
            placement = Placement.of(SHARDS, await registry.live(database, 10))
        wished = {placement.preferred(shard) for shard in range(SHARDS)}
        assert wished == {owner.worker.settings.worker_id}
        await first.__aexit__(None, None, None)
        await owned_again(standing_by)
        assert await standing_by.stub("n").increment() == 2


async def test_a_worker_that_drains_hands_all_over_to_one_that_is_there(
    database_url: str,
) -> None:
    async with worker(database_url) as second:
        async with worker(database_url) as first:
            assert first.worker.shards.owned < SHARDS
            # It looks at once when it is told.
            first.worker.shards._on_released = lambda _: second.worker.shards.wake()
        await owned_again(second)


async def test_a_hand_over_lets_handlers_end_and_nothing_new_in(
    database_url: str,
) -> None:
    async with worker(database_url, Remembering) as place:
        shard, dispatcher = place.shard("a"), place.worker.dispatcher
        slow = asyncio.create_task(place.stub("a").slow_increment())
        await Remembering.begun.wait()
        going = asyncio.create_task(dispatcher.hand_over([shard], 5.0))
        await asyncio.sleep(0)
        with pytest.raises(Moved):
            await dispatcher.call(place.things.id_from_name("a"), "see", (), {}, None)
        Remembering.go_on.set()
        await going
        assert await slow == 1
        assert not dispatcher.activations()
        dispatcher.admit([shard])
        assert await place.stub("a").read() == 1


async def test_what_a_running_handler_calls_still_enters_in_a_hand_over(
    database_url: str,
) -> None:
    async with worker(database_url, Remembering) as place:
        dispatcher = place.worker.dispatcher
        shards = [place.shard("a"), place.shard("b")]
        calling = asyncio.create_task(place.stub("a").call_me("b"))
        await Remembering.begun.wait()
        going = asyncio.create_task(dispatcher.hand_over(shards, 5.0))
        await asyncio.sleep(0)
        Remembering.go_on.set()
        await going
        assert await calling == 1


async def test_what_outlasts_the_grace_of_a_hand_over_is_reset_and_writes_nothing(
    database_url: str,
) -> None:
    async with worker(database_url, Remembering) as place:
        shard, dispatcher = place.shard("a"), place.worker.dispatcher
        slow = asyncio.create_task(place.stub("a").slow_increment())
        await Remembering.begun.wait()
        await dispatcher.hand_over([shard], 0.05)
        with pytest.raises(DurableError) as raised:
            await slow
        assert raised.value.retryable
        dispatcher.admit([shard])
        assert await place.stub("a").read() == 0


async def test_an_object_goes_on_in_memory_when_its_worker_gets_its_shard_back(
    database_url: str,
) -> None:
    async with worker(database_url, Remembering) as place:
        assert await place.stub("a").see() == 1
        before = place.worker.shards.claim_of(place.shard("a"))
        slow = asyncio.create_task(place.stub("a").slow_increment())
        await Remembering.begun.wait()
        await terminate(database_url, place.lane_name)
        await until(lambda: _is_gone(place, before))
        await owned_again(place)
        after = place.worker.shards.claim_of(place.shard("a"))
        assert before is not None
        assert after is not None
        assert after.epoch == before.epoch + 1
        Remembering.go_on.set()
        assert await slow == 1, "what ran when the lane was lost goes on"
        assert await place.stub("a").see() == 2
        await place.stub("a").increment()
        async with session(database_url) as admin:
            rows = await admin.fetch("SELECT value::text FROM durable.kv")
        assert [row[0] for row in rows] == ["2"], "it commits under the new claim"


async def _is_gone(place: Opened, claim: Claim | None) -> bool:
    return place.worker.shards.claim_of(place.shard("a")) != claim


async def test_an_object_whose_shard_somebody_else_had_meanwhile_is_reset(
    database_url: str,
) -> None:
    async with worker(database_url, Remembering) as place:
        assert await place.stub("a").see() == 1
        before = place.worker.shards.claim_of(place.shard("a"))
        async with session(database_url) as admin:
            await admin.execute(
                "UPDATE durable.shard SET claim_id = gen_random_uuid() WHERE id = $1",
                place.shard("a"),
            )
        await terminate(database_url, place.lane_name)
        await until(lambda: _is_gone(place, before))
        await owned_again(place)
        assert await place.stub("a").see() == 1


async def test_others_hear_of_shards_before_they_open_and_after_they_went(
    database_url: str,
) -> None:
    heard: list[tuple[str, int]] = []
    place: Opened

    async def before_open(claims: list[Claim]) -> None:
        heard.append(("open", len(claims)))

    seams = ShardSeams(
        before_open=before_open,
        on_claimed=lambda shards: heard.append(("claimed", len(shards))),
        on_released=lambda shards: heard.append(("released", len(shards))),
    )
    async with worker(database_url, seams=seams) as place:
        assert heard == [("open", SHARDS), ("claimed", SHARDS)]
        assert place.worker.shards.owned == SHARDS
    assert heard[2:] == [("released", SHARDS)]


async def test_a_front_end_owns_nothing_and_is_known(database_url: str) -> None:
    async with worker(database_url, role="front") as front:
        assert front.worker.shards.owned == 0
        async with worker(database_url) as place:
            assert place.worker.shards.owned == SHARDS
            async with Database(database_url, limit=5, size=1, name="t") as database:
                rows = await registry.live(database, 60)
        assert {row.role: row.present for row in rows} == {"front": False, "both": True}


async def test_a_worker_whose_lane_is_gone_is_live_but_not_present(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another lane would be there before Postgres has noticed the end of this one.
    monkeypatch.setattr(ownership_pace, "REOPEN_SECONDS", 60)
    async with worker(database_url) as place:
        async with Database(database_url, limit=5, size=1, name="t") as database:
            place.worker.shards.lane._lose(Unavailable("gone"))

            async def is_absent() -> bool:
                (row,) = await registry.live(database, 60)
                return not row.present and not row.may_own

            # The session ends when Postgres hears that it was hung up.
            await until(is_absent)
