"""Section 2: what is written together, when it is durable, and the options."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from durable import DurableError, ValueRefused, ValueTooLarge
from durable.testing import Fleet
from tests.parity.probe import Probe, cold, inside, order_of, own_fleet, sleep

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.rule("S2.16")
async def test_writes_with_only_storage_writes_between_are_one_commit(
    fleet: Fleet, stub: Any
) -> None:
    async def work(it: Probe) -> None:
        it.storage.put("a", 1)
        await it.storage.put("b", 2)
        it.storage.set_alarm(4102444800)
        await it.storage.delete("c")

    async def read(it: Probe) -> Any:
        return await it.storage.list(), await it.storage.get_alarm()

    await inside(stub, lambda it: it.storage.put("c", 3))
    await fleet.settle()
    # A second commit would not be refused.
    fleet.fail_commit(stub)
    with pytest.raises(DurableError):
        await inside(stub, work)
    assert await inside(stub, read) == ({"c": 3}, None)
    # ... and a single one doesn't come to a second.
    fleet.fail_commit(stub, nth=2)
    await inside(stub, work)
    kept, alarm = await inside(stub, read)
    assert kept == {"a": 1, "b": 2}
    assert alarm == datetime(2100, 1, 1, tzinfo=UTC)


async def write_for_ever(it: Probe) -> None:
    for n in range(1_000_000):
        it.storage.put("a", n)
        await it.storage.put("b", n)
        await asyncio.sleep(0)


@pytest.mark.rule("S2.16")
async def test_a_crash_keeps_all_of_a_commit_or_none(durable_postgres: str) -> None:
    async with own_fleet(durable_postgres, nodes=2) as fleet:
        stubs = [fleet.env.Probe.get_by_name(f"crash-{n}") for n in range(40)]
        writing = [asyncio.create_task(inside(stub, write_for_ever)) for stub in stubs]
        # Not a wait for something, but a moment like any other.
        await asyncio.sleep(0.2)
        await fleet.nodes[1].crash()
        await fleet.nodes[0].crash()
        await asyncio.wait(writing)
        await fleet.start_node()
        for stub in stubs:
            anew = fleet.env.Probe.get_by_name(stub.name)
            kept = await inside(anew, lambda it: it.storage.get(["a", "b"]))
            assert kept.get("a") == kept.get("b")


@pytest.mark.rule("S2.17")
async def test_sync_returns_when_all_writes_are_durable(
    fleet: Fleet, stub: Any
) -> None:
    seen: list[str] = []

    async def work(it: Probe, **options: Any) -> None:
        it.storage.put("a", 1, **options)
        await it.storage.sync()
        seen.append("synced")

    await inside(stub, work)
    assert seen == ["synced"]
    for unconfirmed in (False, True):
        await fleet.settle()
        fleet.fail_commit(stub)
        with pytest.raises(DurableError):
            await inside(stub, lambda it, u=unconfirmed: work(it, allow_unconfirmed=u))
    assert seen == ["synced"]


@pytest.mark.rule("S2.18")
async def test_delete_all_takes_everything_and_the_object_lives_on(
    fleet: Fleet, stub: Any
) -> None:
    async def fill(it: Probe) -> None:
        it.storage.put("a", 1)
        it.storage.set_alarm(4102444800)
        await it.storage.sql("CREATE TABLE t (x int)")

    async def clear(it: Probe) -> None:
        it.memory.append("still here")
        await it.storage.delete_all()
        it.storage.put("b", 2)

    async def read(it: Probe) -> Any:
        # Refused if there were one.
        await it.storage.sql("CREATE TABLE t (x int); DROP TABLE t")
        return await it.storage.list(), await it.storage.get_alarm()

    await inside(stub, fill)
    await inside(stub, clear)
    assert await stub.remembered() == ["still here"]
    assert await inside(stub, read) == ({"b": 2}, None)
    await sleep(fleet, stub)
    assert await inside(stub, read) == ({"b": 2}, None)


@pytest.mark.rule("S2.19")
async def test_delete_all_can_not_be_part_of_a_transaction(stub: Any) -> None:
    async def work(it: Probe) -> None:
        async with it.storage.transaction():
            await it.storage.delete_all()

    await inside(stub, lambda it: it.storage.put("a", 1))
    with pytest.raises(DurableError, match="transaction"):
        await inside(stub, work)
    assert await inside(stub, lambda it: it.storage.get("a")) == 1


@pytest.mark.rule("S2.20")
async def test_a_key_has_up_to_2048_bytes(stub: Any) -> None:
    await inside(stub, lambda it: it.storage.put("é" * 1024, 1))
    for key in ("é" * 1024 + "a", "NUL \0"):
        with pytest.raises(ValueRefused):
            await inside(stub, lambda it, k=key: it.storage.put(k, 1))


@pytest.mark.rule("S2.21")
async def test_a_value_has_up_to_32_mib(stub: Any) -> None:
    async def work(it: Probe) -> str:
        with pytest.raises(ValueTooLarge):
            await it.storage.put({"small": 1, "large": b" " * (32 * 2**20)})
        it.storage.put("fits", b" " * (32 * 2**20 - 1))
        return str(await it.storage.get("small"))

    assert await inside(stub, work) == "None"


@pytest.mark.rule("S2.22")
@pytest.mark.parametrize("operation", ["get", "get of several", "list", "delete"])
async def test_allow_concurrency_lets_events_in_while_a_read_waits(
    fleet: Fleet, stub: Any, operation: str
) -> None:
    def read(it: Probe, **options: Any) -> Any:
        storage = it.storage
        if operation == "list":
            return storage.list(start="a", **options)
        keys: Any = ["a", "b"] if "several" in operation else "a"
        return getattr(storage, operation.split()[0])(keys, **options)

    await cold(fleet, stub, a=1)
    assert await order_of(stub, read) == ["asked", "told", "other"]
    await cold(fleet, stub, a=1)
    order = await order_of(stub, lambda it: read(it, allow_concurrency=True))
    assert order == ["asked", "other", "told"]


@pytest.mark.rule("S2.23")
async def test_allow_unconfirmed_does_not_hold_the_reply(
    fleet: Fleet, stub: Any
) -> None:
    def work(it: Probe) -> str:
        it.storage.put("a", 1, allow_unconfirmed=True)
        return "said"

    await stub.remember("memory")
    await fleet.settle()
    fleet.fail_commit(stub)
    assert await inside(stub, work) == "said"
    await fleet.settle()
    # It failed behind the reply: the object was reset all the same.
    assert await stub.remembered() == []
    assert await inside(stub, lambda it: it.storage.get("a")) is None


@pytest.mark.rule("S2.24")
async def test_no_cache_keeps_nothing_in_memory(fleet: Fleet, stub: Any) -> None:
    def read(it: Probe) -> Any:
        return it.storage.get("a", allow_concurrency=True, no_cache=True)

    await cold(fleet, stub, a=1)
    for _ in range(2):
        # It is asked for in Postgres, each time: so the other comes in between.
        assert await order_of(stub, read) == ["asked", "other", "told"]
    await inside(stub, lambda it: it.storage.put("a", 2))
    assert await order_of(stub, read) == ["asked", "told", "other"]
    await inside(stub, lambda it: it.storage.put("a", 2, no_cache=True))
    await fleet.settle()
    assert await order_of(stub, read) == ["asked", "other", "told"]
