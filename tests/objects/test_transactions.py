"""Explicit transactions and SQL: together or not at all, whoever writes beside them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import ResetError, SqlError, Unavailable, ValueRefused
from durable.domain.errors import CommitFailed, CommitUnknown
from durable.objects.transaction import NestedTransaction
from tests.objects.scripted import Place, turns
from tests.objects.test_activation import Thing, work


@pytest.fixture
def place() -> Place:
    Thing.works = {}
    Thing.starts = 0
    return Place(Thing, start_timeout=0.3)


async def test_what_is_written_inside_is_one_commit(place: Place) -> None:
    @work(place, "both")
    async def both(thing: Thing) -> None:
        async with thing.storage.transaction():
            thing.storage.put("a", 1)
            await asyncio.sleep(0)
            thing.storage.put("b", 2)
            assert await thing.storage.list() == {"a": 1, "b": 2}

    await place.stub().do("both")
    assert place.stored() == {"a": "1", "b": "2"}
    assert len(place.lane.commits) == 1


@pytest.mark.parametrize("first", [64, 0])
async def test_an_exception_rolls_memory_back_and_goes_on_to_the_caller(
    place: Place, first: int
) -> None:
    place.rows.first = first
    place.keep({"kept": 1, "gone": 2, "unread": 3})

    @work(place, "fail")
    async def fail(thing: Thing) -> Any:
        await thing.storage.get("kept")
        thing.storage.put("before", 0)
        with pytest.raises(RuntimeError, match="no"):  # noqa: PT012
            async with thing.storage.transaction():
                thing.storage.put("kept", 9)
                thing.storage.put("new", 9)
                await thing.storage.delete(["gone", "unread"])
                assert await thing.storage.list() == {"before": 0, "kept": 9, "new": 9}
                raise RuntimeError("no")
        return await thing.storage.list()

    everything = {"before": 0, "gone": 2, "kept": 1, "unread": 3}
    assert await place.stub().do("fail") == everything
    assert place.stored() == {k: str(v) for k, v in everything.items()}
    assert Thing.starts == 1


async def test_frames_sent_inside_leave_with_the_commit_or_never(place: Place) -> None:
    log: list[str] = []

    @work(place, "say")
    async def say(thing: Thing) -> None:
        async with thing.storage.transaction():
            thing.ctx.emit(lambda: log.append("committed"))
            assert log == []
        try:
            async with thing.storage.transaction():
                thing.ctx.emit(lambda: log.append("rolled back"))
                raise KeyError
        except KeyError:
            pass

    await place.stub().do("say")
    assert log == ["committed"]


async def test_tasks_started_inside_are_inside(place: Place) -> None:
    @work(place, "fail")
    async def fail(thing: Thing) -> Any:
        async def write(key: str) -> None:
            await asyncio.sleep(0)
            thing.storage.put(key, 1)

        try:
            async with thing.storage.transaction():
                await asyncio.gather(write("a"), write("b"))
                raise KeyError
        except KeyError:
            pass
        return await thing.storage.list()

    assert await place.stub().do("fail") == {}


async def test_a_transaction_is_open_once(place: Place) -> None:
    @work(place, "nest")
    async def nest(thing: Thing) -> None:
        async with thing.storage.transaction():
            thing.storage.put("a", 1)
            with pytest.raises(NestedTransaction):
                async with thing.storage.transaction():
                    pass

    await place.stub().do("nest")
    assert place.stored() == {"a": "1"}


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("sql", [True, False])
async def test_who_ran_before_writes_beside_the_transaction(
    place: Place, fails: bool, sql: bool
) -> None:
    """Its write is acknowledged: no other handler's roll back may undo it."""
    entered, wrote, wrote_again = (asyncio.Event() for _ in range(3))

    @work(place, "beside")
    async def beside(thing: Thing) -> None:
        await entered.wait()
        thing.storage.put({"mine": 1, "both": "beside", "last": "beside"})
        wrote.set()
        await wrote_again.wait()

    @work(place, "inside")
    async def inside(thing: Thing) -> None:
        async with thing.storage.transaction():
            if sql:
                await thing.storage.sql("ok")
            thing.storage.put({"both": "inside", "last": "early", "its": 1})
            entered.set()
            await wrote.wait()
            thing.storage.put("last", "inside")
            wrote_again.set()
            if fails:
                raise RuntimeError("no")

    before = asyncio.create_task(place.stub().do("beside"))
    await turns()
    transaction = asyncio.create_task(place.stub().do("inside"))
    await asyncio.wait([before, transaction])
    before.result()
    assert (transaction.exception() is not None) is fails
    expected = {"both": '"beside"', "last": '"beside"', "mine": "1"}
    if not fails:
        expected |= {"its": "1", "last": '"inside"'}
    assert place.stored() == dict(sorted(expected.items()))
    place.evict()
    again = {key: value.strip('"') for key, value in expected.items()}
    assert str(await place.stub().read("last")) == again["last"]


async def test_the_answer_of_who_writes_beside_waits_for_its_own_commit(
    place: Place,
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    @work(place, "beside")
    async def beside(thing: Thing) -> None:
        await entered.wait()
        thing.storage.put("mine", 1)

    @work(place, "inside")
    async def inside(thing: Thing) -> None:
        async with thing.storage.transaction():
            entered.set()
            await go_on.wait()

    before = asyncio.create_task(place.stub().do("beside"))
    await turns()
    place.lane.hold()
    transaction = asyncio.create_task(place.stub().do("inside"))
    await turns()
    assert not before.done()
    place.lane.release()
    await before
    go_on.set()
    await transaction


async def test_a_transaction_that_stays_open_resets_the_object(place: Place) -> None:
    @work(place, "stay")
    async def stay(thing: Thing) -> None:
        async with thing.storage.transaction():
            await asyncio.Event().wait()

    with pytest.raises(ResetError, match=r"open for over 0\.3 s"):
        await place.stub().do("stay")
    assert await place.stub().increment() == 1


# --- SQL


async def test_what_was_written_before_goes_with_the_statement(place: Place) -> None:
    @work(place, "sql")
    async def sql(thing: Thing) -> None:
        thing.storage.put("a", 1)
        await thing.storage.sql("ok")

    await place.stub().do("sql")
    assert place.stored() == {"a": "1"}
    assert place.lane.commits == [], "the lane had no part in it"


@pytest.mark.parametrize("bad", ["bad", 123])
async def test_a_refused_statement_leaves_the_write_set_to_the_lane(
    place: Place, bad: Any
) -> None:
    @work(place, "sql")
    async def sql(thing: Thing) -> None:
        thing.storage.put("a", 1)
        with pytest.raises((SqlError, TypeError)):
            await thing.storage.sql(bad)
        thing.storage.put("b", 2)

    await place.stub().do("sql")
    assert place.stored() == {"a": "1", "b": "2"}
    assert Thing.starts == 1


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (CommitUnknown("lost"), CommitUnknown),
        (CommitFailed("stale"), CommitFailed),
        (RuntimeError("a defect"), CommitUnknown),
    ],
)
async def test_a_statement_whose_commit_fails_resets(
    place: Place, failure: Exception, raised: type[Exception]
) -> None:
    @work(place, "sql")
    async def sql(thing: Thing) -> None:
        thing.storage.put("a", 1)
        await thing.storage.sql("ok")

    place.sql.failure = failure
    with pytest.raises((raised, type(failure))):
        await place.stub().do("sql")
    place.sql.failure = None
    assert await place.stub().increment() == 1
    assert Thing.starts == 2
    assert place.rows.drains == (raised is CommitUnknown)


async def test_a_statement_that_is_cut_off_is_outwaited_before_the_next_read(
    place: Place,
) -> None:
    @work(place, "sql")
    async def sql(thing: Thing) -> None:
        thing.storage.put("a", 1)
        async with asyncio.timeout(0.01):
            await thing.storage.sql("hang")

    with pytest.raises(CommitUnknown):
        await place.stub().do("sql")
    assert await place.stub().increment() == 1
    assert place.rows.reads[1:3] == ["drain", "load"]


async def test_sql_and_writes_inside_commit_together(place: Place) -> None:
    @work(place, "all")
    async def everything(thing: Thing) -> None:
        thing.storage.put("before", 0)
        async with thing.storage.transaction():
            thing.storage.put("a", 1)
            await asyncio.gather(thing.storage.sql("one"), thing.storage.sql("two"))
            thing.storage.put("b", 2)

    await place.stub().do("all")
    assert place.sql.log == ["begin", "one", "two", "commit"]
    assert place.stored() == {"a": "1", "b": "2", "before": "0"}


async def test_a_roll_back_with_sql_keeps_what_was_written_before(place: Place) -> None:
    @work(place, "all")
    async def everything(thing: Thing) -> None:
        thing.storage.put("before", 0)
        with pytest.raises(SqlError):  # noqa: PT012
            async with thing.storage.transaction():
                thing.storage.put("a", 1)
                await thing.storage.sql("bad")

    await place.stub().do("all")
    assert place.sql.log == ["begin", "bad", "roll back"]
    assert place.stored() == {"before": "0"}


async def test_a_transaction_refused_at_commit_is_rolled_back(place: Place) -> None:
    @work(place, "all")
    async def everything(thing: Thing) -> None:
        with pytest.raises(SqlError, match="deferred"):  # noqa: PT012
            async with thing.storage.transaction():
                thing.storage.put("a", 1)
                await thing.storage.sql("ok")
                place.sql.failure = SqlError("deferred", query="COMMIT")
        place.sql.failure = None
        thing.storage.put("after", 1)

    await place.stub().do("all")
    assert place.stored() == {"after": "1"}
    assert Thing.starts == 1


async def test_a_transaction_cut_off_at_commit_resets_the_object(place: Place) -> None:
    @work(place, "all")
    async def everything(thing: Thing) -> None:
        async with asyncio.timeout(0.01):
            async with thing.storage.transaction():
                thing.storage.put("a", 1)
                await thing.storage.sql("hang at commit")

    with pytest.raises(CommitUnknown):
        await place.stub().do("all")
    assert await place.stub().increment() == 1
    assert place.rows.drains == 1


async def test_the_lane_gets_nothing_while_a_statement_waits_for_its_turn(
    place: Place,
) -> None:
    @work(place, "sql")
    async def sql(thing: Thing) -> None:
        thing.storage.put("a", 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        thing.storage.put("b", 2)
        await thing.storage.sql("ok")

    place.lane.hold()
    running = asyncio.create_task(place.stub().do("sql"))
    await turns()
    place.lane.release()
    await running
    assert [set(commit.rows) for commit in place.lane.commits] == [{("user", "a")}]
    assert place.stored() == {"a": "1", "b": "2"}


# --- delete_all


async def test_delete_all_then_writes_begin_anew(place: Place) -> None:
    place.rows.first = 1
    place.keep({"a": 1, "b": 2, "c": 3})

    @work(place, "wipe")
    async def wipe(thing: Thing) -> Any:
        thing.storage.put("d", 4)
        await thing.storage.delete_all()
        thing.storage.put("b", 5)
        return await thing.storage.list()

    assert await place.stub().do("wipe") == {"b": 5}
    assert place.stored() == {"b": "5"}
    assert len(place.lane.commits) == 1


async def test_delete_all_drops_the_schema_in_the_same_commit(place: Place) -> None:
    @work(place, "wipe")
    async def wipe(thing: Thing) -> None:
        thing.storage.put("a", 1)
        await thing.storage.sql("ok")
        thing.storage.put("b", 2)
        await thing.storage.delete_all()

    await place.stub().do("wipe")
    assert place.sql.log == ["ok", "drop"]
    assert place.lane.commits == []
    assert (place.stored(), place.rows.schemas) == ({}, {})


async def test_a_schema_that_cannot_be_dropped_keeps_the_rows_too(place: Place) -> None:
    @work(place, "wipe")
    async def wipe(thing: Thing) -> None:
        thing.storage.put("a", 1)
        await thing.storage.sql("ok")
        place.sql.failure = Unavailable("no connection")
        await thing.storage.delete_all()

    with pytest.raises(Unavailable):
        await place.stub().do("wipe")
    await turns()
    assert place.stored() == {"a": "1"}
    assert await place.stub().read("a") == 1


async def test_delete_all_is_refused_inside_a_transaction(place: Place) -> None:
    @work(place, "wipe")
    async def wipe(thing: Thing) -> None:
        thing.storage.put("a", 1)
        async with thing.storage.transaction():
            thing.storage.put("b", 1)
            with pytest.raises(ValueRefused, match="transaction"):
                await thing.storage.delete_all()

    await place.stub().do("wipe")
    assert place.stored() == {"a": "1", "b": "1"}


async def test_a_late_read_does_not_bring_back_what_delete_all_removed(
    place: Place,
) -> None:
    place.rows.first = 0
    place.keep({"a": 1})
    go_on = asyncio.Event()

    @work(place, "wipe")
    async def wipe(thing: Thing) -> None:
        await go_on.wait()
        await thing.storage.delete_all()

    @work(place, "read")
    async def read(thing: Thing) -> Any:
        return await thing.storage.get("a"), await thing.storage.list()

    wiping = asyncio.create_task(place.stub().do("wipe"))
    await turns()
    with place.rows.held():
        reading = asyncio.create_task(place.stub().read("a"))
        listing = asyncio.create_task(place.stub().do("read"))
        await turns()
        go_on.set()
        await turns()
    await asyncio.gather(wiping, reading, listing)
    assert await place.stub().do("read") == (None, {})


# --- deleting what only Postgres knows


async def test_deletions_tell_what_existed_also_of_rows_that_are_not_cached(
    place: Place,
) -> None:
    place.rows.first = 0
    place.keep({"a": 1, "b": 2, "c": 3})

    @work(place, "delete")
    async def delete(thing: Thing) -> Any:
        storage = thing.storage
        return (
            await storage.delete("a"),
            await storage.delete("a"),
            await storage.delete("absent"),
            await storage.delete(["b", "b", "nothing"]),
            await storage.list(),
        )

    deleted = await place.stub().do("delete")
    assert deleted == (True, False, False, 1, {"c": 3})
    assert place.stored() == {"c": "3"}


async def test_a_deletion_that_nobody_awaits_is_done_all_the_same(place: Place) -> None:
    place.rows.first = 0
    place.keep({"a": 1, "b": 2, "c": 3})

    @work(place, "delete")
    def delete(thing: Thing) -> None:
        thing.storage.delete("a")
        thing.storage.delete(["b"])

    await place.stub().do("delete")
    assert place.stored() == {"c": "3"}


async def test_a_cancelled_deletion_does_not_hold_up_commits(place: Place) -> None:
    place.rows.first = 0
    place.keep({"a": 1})

    @work(place, "delete")
    async def delete(thing: Thing) -> None:
        deleting = asyncio.ensure_future(thing.storage.delete("a"))
        deleting.cancel()
        await asyncio.wait([deleting])
        thing.storage.put("b", 1)

    await place.stub().do("delete")
    assert place.stored() == {"b": "1"}


async def test_a_failed_read_of_a_deletion_is_told_and_the_object_lives_on(
    place: Place,
) -> None:
    place.rows.first = 0
    place.keep({"a": 1})

    @work(place, "delete")
    async def delete(thing: Thing) -> None:
        place.rows.failure = Unavailable("no Postgres")
        with pytest.raises(Unavailable):
            await thing.storage.delete("a")
        place.rows.failure = None

    await place.stub().do("delete")
    assert (place.stored(), Thing.starts) == ({}, 1)


@pytest.mark.parametrize("limit", [None, 1, 2, 3])
@pytest.mark.parametrize("reverse", [True, False])
async def test_a_list_sees_unflushed_writes_over_what_is_not_cached(
    place: Place, limit: int | None, reverse: bool
) -> None:
    place.rows.first = 2
    place.keep(dict.fromkeys("abcdef", 0))

    @work(place, "list")
    async def listing(thing: Thing) -> Any:
        thing.storage.delete(["c", "e"])
        thing.storage.put({"d": 1, "g": 1, "b": 1})
        found = await thing.storage.list(start="b", limit=limit, reverse=reverse)
        return list(found.items())

    expected = [("b", 1), ("d", 1), ("f", 0), ("g", 1)]
    ordered = expected[::-1] if reverse else expected
    assert [tuple(e) for e in await place.stub().do("list")] == ordered[:limit]


async def test_bad_keys_are_refused_with_a_reason(place: Place) -> None:
    place.rows.first = 0
    place.keep({"a": 1})

    @work(place, "refused")
    async def refused(thing: Thing) -> None:
        storage = thing.storage
        for key in ("a\0", "\ud800"):
            with pytest.raises(ValueRefused):
                await storage.get(key)
            with pytest.raises(ValueRefused):
                await storage.get([key])
            with pytest.raises(ValueRefused):
                storage.put(key, 1)
            with pytest.raises(ValueRefused):
                await storage.delete([key])
            with pytest.raises(ValueRefused):
                await storage.list(prefix=key)
        with pytest.raises(ValueRefused, match="2048"):
            storage.put("é" * 1025, 1)
        with pytest.raises(ValueRefused, match="None"):
            storage.put("x", None)
        with pytest.raises(ValueRefused, match="128"):
            storage.put({str(n): n for n in range(129)})
        with pytest.raises(ValueRefused, match="both"):
            await storage.list(start="a", start_after="b")
        with pytest.raises(ValueRefused, match="limit"):
            await storage.list(limit=0)
        with pytest.raises(ValueRefused, match=r"value\.when\[1\]"):
            storage.put({"ok": 1, "bad": {"when": [0, object()]}})
        assert await storage.get("ok") is None

    await place.stub().do("refused")
    assert place.stored() == {"a": "1"}
