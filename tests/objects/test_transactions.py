"""Explicit transactions and SQL: together or not at all, whoever writes beside them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import NestedTransaction, ResetError, SqlError
from durable.domain.errors import CommitFailed, CommitUnknown
from tests.objects.scripted import Place, turns
from tests.objects.thing import Thing, work


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
    await place.evict()
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
