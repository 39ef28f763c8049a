"""The lane on a real Postgres: locks, group commit, poison, freshness, and its end."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from durable.domain.errors import CommitFailed, CommitUnknown, DataRefused, Unavailable
from durable.domain.writes import Claim
from durable.store.commit import COMMIT_ON_LANE
from durable.store.lane import MAX_BYTES
from tests.store.lanes import OWNER, Source, opened, session, terminate, until

A, B = ("user", "a"), ("user", "b")


async def test_a_shard_has_one_owner_until_the_lanes_session_ends(
    database_url: str,
) -> None:
    async with opened(database_url, name="first") as first:
        claims = await first.claim(1, 2)
        assert [(claim.shard, claim.epoch) for claim in claims] == [(1, 1), (2, 1)]
        async with opened(database_url) as second:
            assert [claim.shard for claim in await second.claim(1, 2, 3)] == [3]
    async with opened(database_url) as third:
        rows = await third.lane.claim([1, 2, 3, 4], OWNER)
        released = {row.shard: row.released for row in rows}
        assert released == {1: False, 2: False, 3: False, 4: True}
        assert {row.shard: row.epoch for row in rows}[1] == 2


async def test_released_shards_are_free_at_once_and_say_so(database_url: str) -> None:
    async with opened(database_url) as one, opened(database_url) as two:
        claims = await one.claim(1, 2)
        await one.lane.release(claims[:1])
        rows = await two.lane.claim([1, 2], OWNER)
        assert [(row.shard, row.released) for row in rows] == [(1, True)]


async def test_a_shard_with_a_writer_off_the_lane_is_left_out_and_its_lock_let_go(
    database_url: str,
) -> None:
    async with opened(database_url) as one, session(database_url) as writer:
        async with writer.transaction():
            await writer.execute("SELECT pg_advisory_xact_lock_shared(17490, 1)")
            assert [claim.shard for claim in await one.claim(1, 2)] == [2]
        assert [claim.shard for claim in await one.claim(1)] == [1]


async def test_objects_that_are_dirty_together_are_one_commit(
    database_url: str,
) -> None:
    async with opened(database_url) as place:
        (claim,) = await place.claim(1)
        sources = [Source(claim, {A: str(n), B: b"\x00raw"}) for n in range(80)]
        for source in sources:
            place.lane.mark_dirty(source)
            place.lane.mark_dirty(source)
        await asyncio.gather(*(source.result for source in sources))
        assert place.lane.meter.commits.count == 1
        assert await place.kv() == {
            (source.object_id, key): value
            for source in sources
            for (_, key), value in source.rows.items()
        }


@pytest.mark.parametrize(
    "poison", ["not json", '"\x00"', '"\ud800"', '{"open": '], ids=repr
)
async def test_one_objects_bad_value_fails_it_alone(
    database_url: str, poison: str
) -> None:
    async with opened(database_url) as place:
        (claim,) = await place.claim(1)
        sources = [Source(claim, {A: "1"}) for _ in range(20)]
        sources[13].rows = {A: "1", B: poison}
        for source in sources:
            place.lane.mark_dirty(source)
        await asyncio.wait([source.result for source in sources])
        bad = sources.pop(13)
        error = bad.result.exception()
        assert isinstance(error, DataRefused)
        assert not error.retryable
        assert all(source.result.exception() is None for source in sources)
        assert len(await place.kv()) == 19
        assert place.lost == []


async def test_a_row_that_somebody_locked_fails_its_object_alone(
    database_url: str,
) -> None:
    """55P03 may be gone at the next try, so the caller is told to try again."""
    async with opened(database_url) as place, session(database_url) as operator:
        (claim,) = await place.claim(1)
        sources = [Source(claim, {A: "1"}) for _ in range(8)]
        for source in sources:
            place.lane.mark_dirty(source)
        await asyncio.gather(*(source.result for source in sources))
        again = [Source(claim, {A: "2"}, source.object_id) for source in sources]
        async with operator.transaction():
            await operator.execute(
                "SELECT FROM durable.kv WHERE object = $1 FOR UPDATE",
                again[3].object_id,
            )
            for source in again:
                place.lane.mark_dirty(source)
            await asyncio.wait([source.result for source in again])
        error = again.pop(3).result.exception()
        assert isinstance(error, CommitFailed)
        assert error.retryable
        assert not isinstance(error, DataRefused)
        assert all(source.result.exception() is None for source in again)
        assert place.lost == []


async def test_a_deadlock_is_no_verdict_on_the_data(database_url: str) -> None:
    async with opened(database_url) as place:
        (claim,) = await place.claim(1)
        commit = place.lane._prepared[COMMIT_ON_LANE]

        class Deadlocked:
            calls = 0

            async def fetchval(self, *params: Any) -> None:
                self.calls += 1
                if self.calls == 1:
                    raise asyncpg.DeadlockDetectedError("deadlock detected")
                await commit.fetchval(*params)

        deadlocked = place.lane._prepared[COMMIT_ON_LANE] = Deadlocked()
        sources = [Source(claim, {A: "1"}) for _ in range(4)]
        for source in sources:
            place.lane.mark_dirty(source)
        await asyncio.gather(*(source.result for source in sources))
        assert deadlocked.calls > 1
        assert place.lost == []


async def test_a_large_value_goes_off_the_lane_whole_with_its_write_set(
    database_url: str,
) -> None:
    async with opened(database_url) as place:
        (claim,) = await place.claim(1)
        large = b"\x00" + bytes(MAX_BYTES)
        big, small = Source(claim, {A: large, B: "1"}), Source(claim, {A: "2"})
        for source in (big, small):
            place.lane.mark_dirty(source)
        await asyncio.gather(big.result, small.result)
        assert place.lane.meter.commits.count == 1
        stored = await place.kv()
        assert stored[big.object_id, "a"] == large
        assert stored[big.object_id, "b"] == "1"


async def test_off_the_lane_a_stale_claim_and_a_bad_value_are_refused(
    database_url: str,
) -> None:
    async with opened(database_url) as place:
        (claim,) = await place.claim(1)
        large = b"\x00" + bytes(MAX_BYTES)
        stale = Source(Claim(1, claim.epoch, OWNER), {A: large})
        bad = Source(claim, {A: large, B: '"\ud800"'})
        for source in (stale, bad):
            place.lane.mark_dirty(source)
        await asyncio.wait([stale.result, bad.result])
        assert isinstance(stale.result.exception(), CommitFailed)
        assert isinstance(bad.result.exception(), DataRefused)
        assert await place.kv() == {}
        assert place.lost == []


async def test_a_stale_claim_on_the_lane_ends_the_lane(database_url: str) -> None:
    async with opened(database_url) as place:
        (claim,) = await place.claim(1)
        stale = Source(Claim(1, claim.epoch - 1, claim.claim_id), {A: "1"})
        place.lane.mark_dirty(stale)
        with pytest.raises(CommitFailed, match="no longer owned"):
            await stale.result
        await asyncio.sleep(0)
        assert len(place.lost) == 1


async def test_a_lane_that_closes_in_a_commit_tells_the_objects_in_it(
    database_url: str,
) -> None:
    async with opened(database_url) as place, session(database_url) as operator:
        (claim,) = await place.claim(1)
        first = Source(claim, {A: "1"})
        place.lane.mark_dirty(first)
        await first.result
        async with operator.transaction():
            await operator.execute("LOCK durable.kv")
            large = b"\x00" + bytes(MAX_BYTES)
            sources = [Source(claim, {A: "2"}), Source(claim, {A: large})]
            for source in sources:
                place.lane.mark_dirty(source)
            await asyncio.gather(*(source.taken.wait() for source in sources))
            await place.lane.close()
        for source in sources:
            with pytest.raises(CommitUnknown):
                await source.result


# --- freshness


class ScriptedClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_freshness_counts_from_the_sending_and_is_renewed_when_asked_for(
    database_url: str,
) -> None:
    clock = ScriptedClock()
    async with opened(database_url, clock=clock, freshness=0.3) as place:
        clock.now += 0.29
        assert place.lane.is_fresh()
        clock.now += 0.02
        assert not place.lane.is_fresh()
        renewed = asyncio.Event()
        place.lane.when_fresh(renewed.set)
        async with asyncio.timeout(5):
            await renewed.wait()
        assert place.lane.is_fresh()


async def test_a_commit_renews_freshness(database_url: str) -> None:
    clock = ScriptedClock()
    async with opened(database_url, clock=clock) as place:
        (claim,) = await place.claim(1)
        clock.now += 10
        source = Source(claim, {A: "1"})
        place.lane.mark_dirty(source)
        await source.result
        assert place.lane.is_fresh()


# --- the end of a lane


async def test_a_session_that_is_ended_is_noticed_and_nothing_is_fresh_any_more(
    database_url: str,
) -> None:
    async with opened(database_url) as place:
        await place.claim(1)
        assert place.lane.is_fresh()
        await terminate(database_url)

        async def noticed() -> bool:
            return bool(place.lost)

        await until(noticed)
        assert not place.lane.is_fresh()
        with pytest.raises(Unavailable):
            await place.claim(2)


@pytest.mark.parametrize("how", ["terminated", "closed"])
async def test_a_claim_that_waits_behind_a_commit_is_answered_when_the_lane_ends(
    database_url: str, how: str
) -> None:
    """It waited for ever, and its node never opened another lane."""
    async with opened(database_url) as place, session(database_url) as operator:
        (claim,) = await place.claim(1)
        async with operator.transaction():
            await operator.execute("LOCK durable.object")
            source = Source(claim, {A: "1"})
            place.lane.mark_dirty(source)
            await source.taken.wait()
            claiming = asyncio.create_task(place.claim(2))
            await asyncio.sleep(0)
            if how == "closed":
                await place.lane.close()
            else:
                await terminate(database_url)
            async with asyncio.timeout(5):
                with pytest.raises(Unavailable):
                    await claiming
                with pytest.raises(CommitUnknown):
                    await source.result


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("cannot switch to state 12"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.AdminShutdownError("terminating connection"),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_ends_the_connection_its_objects_hear_of_an_unknown_commit(
    database_url: str, error: Exception
) -> None:
    async with opened(database_url) as place:
        (claim,) = await place.claim(1)

        class Breaks:
            async def fetchval(self, *params: Any) -> None:
                raise error

        place.lane._prepared[COMMIT_ON_LANE] = Breaks()
        source = Source(claim, {A: "1"})
        place.lane.mark_dirty(source)
        with pytest.raises(CommitUnknown):
            await source.result
        await asyncio.sleep(0)
        assert [type(lost) for lost in place.lost] == [CommitUnknown]


async def test_a_lane_lost_while_it_looks_for_the_bad_value_fails_all_the_rest(
    database_url: str,
) -> None:
    async with opened(database_url) as place:
        (claim,) = await place.claim(1)

        class Breaks:
            calls = 0

            async def fetchval(self, *params: Any) -> None:
                self.calls += 1
                if self.calls == 1:
                    raise asyncpg.DataError("a bad value")
                raise asyncpg.ConnectionDoesNotExistError("connection lost")

        place.lane._prepared[COMMIT_ON_LANE] = Breaks()
        sources = [Source(claim, {A: "1"}) for _ in range(4)]
        for source in sources:
            place.lane.mark_dirty(source)
        done, waiting = await asyncio.wait([s.result for s in sources], timeout=5)
        assert not waiting
        kinds = sorted(type(future.exception()).__name__ for future in done)
        assert kinds == ["CommitUnknown"] * 2 + ["DataRefused"] * 2
        assert len(place.lost) == 1


async def test_a_silent_lane_is_ended_by_postgres_and_its_shards_are_free(
    database_url: str,
) -> None:
    async with session(database_url) as hung:
        await hung.execute("SET idle_session_timeout = '1s'")
        assert await hung.fetchval("SELECT pg_try_advisory_lock(17489, 1)")
        async with opened(database_url) as place:
            await until(lambda: place.claim(1))


async def test_an_idle_lane_keeps_its_session_by_heartbeats(database_url: str) -> None:
    async with opened(database_url, lease=2.0) as place, session(database_url) as admin:
        first = await _last_statement(admin)

        async def another() -> bool:
            return bool(await _last_statement(admin) != first)

        await until(another)
        assert place.lost == []


async def _last_statement(admin: Any) -> Any:
    return await admin.fetchval(
        "SELECT query_start FROM pg_stat_activity WHERE application_name = 'test lane'"
    )


async def test_an_unreachable_postgres_is_unavailable(database_url: str) -> None:
    nowhere = database_url.rpartition("/")[0] + "/there_is_no_such_database"
    with pytest.raises(Unavailable):
        async with opened(nowhere):
            pass
