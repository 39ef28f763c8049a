"""Section 4: transactions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from durable import DurableError, RemoteError
from durable.testing import Fleet
from tests.parity.probe import Gate, Probe, inside, sleep, turns

pytestmark = pytest.mark.asyncio(loop_scope="module")

IN_2100 = datetime(2100, 1, 1, tzinfo=UTC)


async def write_everything(it: Probe) -> None:
    it.storage.put("a", 2)
    await it.storage.sql("UPDATE t SET x = 2")
    await it.storage.put("b", 2)
    it.storage.set_alarm(IN_2100)


async def read_everything(it: Probe) -> Any:
    row = await it.storage.sql("SELECT x FROM t")
    kept = await it.storage.list()
    return kept, row.one()["x"], await it.storage.get_alarm()


async def prepare(stub: Any) -> None:
    async def work(it: Probe) -> None:
        it.storage.put("a", 1)
        await it.storage.sql("CREATE TABLE t (x int); INSERT INTO t VALUES (1)")

    await inside(stub, work)


@pytest.mark.rule("S4.1")
async def test_keys_sql_and_alarm_commit_together(fleet: Fleet, stub: Any) -> None:
    async def work(it: Probe) -> Any:
        async with it.storage.transaction():
            await write_everything(it)
            return await read_everything(it)

    await prepare(stub)
    everything = ({"a": 2, "b": 2}, 2, IN_2100)
    assert await inside(stub, work) == everything
    await sleep(fleet, stub)
    assert await inside(stub, read_everything) == everything


@pytest.mark.rule("S4.2")
async def test_what_raises_is_rolled_back_in_memory_too_and_the_object_lives_on(
    fleet: Fleet, stub: Any
) -> None:
    async def work(it: Probe) -> None:
        it.memory.append("still here")
        async with it.storage.transaction():
            await write_everything(it)
            raise ValueError("no")

    await prepare(stub)
    with pytest.raises(RemoteError, match="no"):
        await inside(stub, work)
    before = ({"a": 1}, 1, None)
    assert await inside(stub, read_everything) == before
    assert await stub.remembered() == ["still here"]
    await sleep(fleet, stub)
    assert await inside(stub, read_everything) == before


@pytest.mark.rule("S4.2")
async def test_the_object_may_catch_what_was_raised_and_go_on(stub: Any) -> None:
    async def work(it: Probe) -> Any:
        try:
            async with it.storage.transaction():
                it.storage.put("a", 1)
                raise ValueError("no")
        except ValueError:
            it.storage.put("b", 1)
        return await it.storage.list()

    assert await inside(stub, work) == {"b": 1}


@pytest.mark.rule("S4.3")
async def test_no_other_event_enters_while_a_transaction_is_open(stub: Any) -> None:
    gate, order = Gate(), []

    async def work(it: Probe) -> None:
        async with it.storage.transaction():
            order.append("begins")
            await gate()
            order.append("ends")

    transaction = asyncio.create_task(inside(stub, work))
    await gate.reached()
    other = asyncio.create_task(inside(stub, lambda _: order.append("other")))
    await turns(100)
    gate.open()
    await asyncio.gather(transaction, other)
    assert order == ["begins", "ends", "other"]


@pytest.mark.rule("S4.4")
async def test_rollback_keeps_nothing_and_raises_nothing(stub: Any) -> None:
    async def work(it: Probe) -> str:
        async with it.storage.transaction() as txn:
            await write_everything(it)
            txn.rollback()
            with pytest.raises(DurableError):
                await it.storage.put("c", 3)
        return "went on"

    await prepare(stub)
    assert await inside(stub, work) == "went on"
    assert await inside(stub, read_everything) == ({"a": 1}, 1, None)


@pytest.mark.rule("S4.5")
async def test_transactions_do_not_nest(stub: Any) -> None:
    async def work(it: Probe) -> Any:
        async with it.storage.transaction():
            it.storage.put("a", 1)
            with pytest.raises(DurableError, match="open already"):
                async with it.storage.transaction():
                    pass
        return await it.storage.get("a")

    assert await inside(stub, work) == 1


@pytest.mark.rule("S4.6")
@pytest.mark.parametrize("fails", [False, True])
async def test_frames_of_a_transaction_leave_after_its_commit_or_never(
    fleet: Fleet, stub: Any, fails: bool
) -> None:
    async def work(it: Probe) -> None:
        (socket,) = it.ctx.get_websockets()
        async with it.storage.transaction():
            it.storage.put("a", 1)
            socket.send("from inside")
            if fails:
                raise ValueError("no")

    async def after(it: Probe) -> None:
        it.ctx.get_websockets()[0].send("after")

    http = await fleet.http()
    async with http.ws_connect(f"/agents/probe/{stub.name}") as socket:
        if fails:
            with pytest.raises(RemoteError):
                await inside(stub, work)
        else:
            await inside(stub, work)
        await inside(stub, after)
        expected = ["after"] if fails else ["from inside", "after"]
        assert [await socket.receive_str(timeout=5) for _ in expected] == expected


@pytest.mark.rule("S4.1")
async def test_a_commit_that_fails_keeps_nothing_of_the_transaction(
    fleet: Fleet, stub: Any
) -> None:
    async def work(it: Probe) -> None:
        async with it.storage.transaction():
            it.storage.put("a", 1)
            await it.storage.put("b", 2)

    await stub.remember("memory")
    fleet.fail_commit(stub)
    with pytest.raises(DurableError):
        await inside(stub, work)
    assert await inside(stub, lambda it: it.storage.list()) == {}
    assert await stub.remembered() == []
