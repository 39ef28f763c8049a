"""Section 5: gates. Who may enter, and what may leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from durable import Deadlock, DurableError, RemoteError, Request, Response, StartFailed
from durable.testing import Fleet
from tests.parity.probe import (
    Gate,
    Probe,
    cold,
    inside,
    on,
    order_of,
    own_fleet,
    sleep,
    turns,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = 100


async def count(stub: Any) -> Any:
    return await inside(stub, lambda it: it.storage.get("n"))


@pytest.mark.rule("S5.1")
@pytest.mark.parametrize("woken", [False, True], ids=["in memory", "cold"])
async def test_read_change_write_of_many_events_loses_no_update(
    fleet: Fleet, stub: Any, woken: bool
) -> None:
    if woken:
        await cold(fleet, stub, n=0)
    await asyncio.gather(*(stub.add_one() for _ in range(CALLS)))
    assert await count(stub) == CALLS


@pytest.mark.rule("S5.1")
async def test_calls_through_several_nodes_lose_no_update(
    fleet: Fleet, stub: Any
) -> None:
    async def add(it: Probe, _: Request) -> Response:
        return Response(str(await it.add_one()))

    on(stub, "fetch")(add)
    nodes = [await fleet.http(node=n) for n in range(len(fleet.nodes))]

    async def call(http: aiohttp.ClientSession) -> None:
        async with http.get(f"/agents/probe/{stub.name}") as response:
            assert response.status == 200

    calls = [call(nodes[n % len(nodes)]) for n in range(CALLS)]
    await asyncio.gather(*calls)
    assert await count(stub) == CALLS


@pytest.mark.rule("S5.2")
async def test_with_a_foreign_await_between_updates_are_lost(stub: Any) -> None:
    await asyncio.gather(*(stub.add_one_late() for _ in range(CALLS)))
    assert await count(stub) < CALLS


async def enter_one_another(
    stub: Any, wait: Callable[[Probe], Any], go_on: Callable[[], None]
) -> list[str]:
    """The order in which a handler that waits, and another event, get on."""
    order: list[str] = []
    begun = asyncio.Event()

    async def waiting(it: Probe) -> None:
        order.append("begins")
        begun.set()
        await wait(it)
        order.append("ends")

    first = asyncio.create_task(inside(stub, waiting))
    await begun.wait()
    second = asyncio.create_task(inside(stub, lambda _: order.append("other")))
    await turns(100)
    go_on()
    await asyncio.gather(first, second)
    return order


@pytest.mark.rule("S5.3")
@pytest.mark.parametrize("what", ["get", "list", "sql", "sync and get"])
async def test_the_input_gate_is_shut_while_storage_is_read(
    fleet: Fleet, stub: Any, what: str
) -> None:
    async def wait(it: Probe) -> None:
        if what == "get":
            await it.storage.get("n")
        elif what == "list":
            await it.storage.list(start="n")
        elif what == "sql":
            await it.storage.sql("SELECT 1")
        else:
            # Together, as with a gather: what waits for storage goes on first.
            await asyncio.gather(it.storage.get("m"), it.storage.get("n"))

    await cold(fleet, stub, n=1)
    order = await enter_one_another(stub, wait, lambda: None)
    assert order == ["begins", "ends", "other"]


@pytest.mark.rule("S5.4")
@pytest.mark.parametrize("what", ["something outside", "a sleep", "another object"])
async def test_any_other_await_lets_events_in(stub: Any, other: Any, what: str) -> None:
    gate = Gate()

    async def wait(it: Probe) -> None:
        if what == "another object":
            await it.env.Probe.get_by_name(other.name).do("wait")
        elif what == "a sleep":
            await asyncio.sleep(0.01)
        else:
            await gate()

    on(other, "wait")(lambda _: gate())
    order = await enter_one_another(stub, wait, gate.open)
    assert order == ["begins", "other", "ends"]


@pytest.mark.rule("S5.4")
async def test_sync_lets_events_in(stub: Any) -> None:
    def work(it: Probe) -> Any:
        it.storage.put("a", 1)
        return it.storage.sync()

    await stub.remembered()
    assert await order_of(stub, work) == ["asked", "other", "told"]


@pytest.mark.rule("S5.5")
async def test_events_that_wait_enter_in_their_order(fleet: Fleet, stub: Any) -> None:
    order: list[int] = []

    async def work(it: Probe, n: int) -> None:
        await it.storage.get("n")
        order.append(n)

    await cold(fleet, stub, n=1)
    on(stub, "work")(work)
    await asyncio.gather(*(stub.do("work", n) for n in range(20)))
    assert order == list(range(20))


@pytest.mark.rule("S5.6")
async def test_a_reply_does_not_leave_before_what_was_written_is_durable(
    fleet: Fleet, stub: Any
) -> None:
    fleet.fail_commit(stub)
    with pytest.raises(DurableError) as caught:
        await stub.add_one()
    assert caught.value.durable_object_reset


@pytest.mark.rule("S5.6")
async def test_what_an_exception_says_does_not_leave_either(
    fleet: Fleet, stub: Any
) -> None:
    def work(it: Probe) -> None:
        it.storage.put("a", 1)
        raise ValueError("I have written a")

    fleet.fail_commit(stub)
    with pytest.raises(DurableError) as caught:
        await inside(stub, work)
    assert not caught.value.remote


@pytest.mark.rule("S5.7")
async def test_a_call_to_another_object_waits_at_the_gate(
    fleet: Fleet, stub: Any, other: Any
) -> None:
    async def work(it: Probe, what: str) -> None:
        it.storage.put("a", what)
        await it.env.Probe.get_by_name(other.name).remember(what)

    on(stub, "work")(work)
    fleet.fail_commit(stub)
    with pytest.raises(DurableError):
        await stub.do("work", "lost")
    await stub.do("work", "durable")
    assert await other.remembered() == ["durable"]


@pytest.mark.rule("S5.8")
async def test_a_frame_to_a_client_waits_at_the_gate(fleet: Fleet, stub: Any) -> None:
    def work(it: Probe, what: str) -> None:
        it.storage.put("a", what)
        it.ctx.get_websockets()[0].send(what)

    on(stub, "work")(work)
    http = await fleet.http()
    async with http.ws_connect(f"/agents/probe/{stub.name}") as socket:
        fleet.fail_commit(stub)
        with pytest.raises(DurableError):
            await stub.do("work", "lost")
        await stub.do("work", "durable")
        assert await socket.receive_str(timeout=5) == "durable"


@pytest.mark.rule("S5.9")
async def test_a_failed_write_resets_the_object(fleet: Fleet, stub: Any) -> None:
    await stub.remember("memory")
    fleet.fail_commit(stub)
    with pytest.raises(DurableError):
        await stub.add_one()
    assert await stub.remembered() == []
    assert await stub.add_one() == 1


@pytest.mark.rule("S5.10")
async def test_block_concurrency_while_lets_nobody_in_and_gives_its_result(
    stub: Any,
) -> None:
    gate = Gate()

    async def wait(it: Probe) -> None:
        async def block() -> str:
            await gate()
            return "result"

        assert await it.ctx.block_concurrency_while(block) == "result"

    order = await enter_one_another(stub, wait, gate.open)
    assert order == ["begins", "ends", "other"]


@pytest.mark.rule("S5.11")
async def test_a_block_that_raises_resets_the_object(stub: Any) -> None:
    async def work(it: Probe) -> None:
        async def block() -> None:
            raise ValueError("not today")

        await it.ctx.block_concurrency_while(block)

    await stub.remember("memory")
    with pytest.raises(StartFailed, match="not today"):
        await inside(stub, work)
    assert await stub.remembered() == []


@pytest.mark.rule("S5.12")
async def test_a_block_that_takes_too_long_resets_the_object(
    durable_postgres: str,
) -> None:
    async def work(it: Probe) -> None:
        await it.ctx.block_concurrency_while(asyncio.Event().wait)

    limits = {"start_timeout_seconds": 0.1}
    async with own_fleet(durable_postgres, settings=limits) as fleet:
        stub = fleet.env.Probe.get_by_name("too long")
        await stub.remember("memory")
        with pytest.raises(StartFailed, match=r"over 0\.1 s"):
            await inside(stub, work)
        assert await stub.remembered() == []


@pytest.mark.rule("S5.13")
async def test_blocks_nest_up_to_64_deep(stub: Any) -> None:
    async def nested(it: Probe, depth: int) -> int:
        if depth == 0:
            return 0
        inner = it.ctx.block_concurrency_while(lambda: nested(it, depth - 1))
        return 1 + int(await inner)

    on(stub, "nested")(nested)
    assert await stub.do("nested", 64) == 64
    with pytest.raises(DurableError, match="64"):
        await stub.do("nested", 65)


@pytest.mark.rule("S5.16")
async def test_a_block_that_waits_for_itself_is_a_deadlock_and_named(
    stub: Any, other: Any
) -> None:
    async def call(it: Probe, name: str) -> Any:
        return await it.env.Probe.get_by_name(name).do("call back")

    async def block(it: Probe) -> Any:
        return await it.ctx.block_concurrency_while(lambda: call(it, other.name))

    on(other, "call back")(lambda it: it.env.Probe.get_by_name(stub.name).remembered())
    with pytest.raises(Deadlock, match=stub.name):
        await inside(stub, block)
    # Without a block it is none.
    assert await inside(stub, lambda it: call(it, other.name)) == []


@pytest.mark.rule("S5.14")
async def test_a_timer_set_outside_a_block_may_be_awaited_inside(stub: Any) -> None:
    async def work(it: Probe) -> str:
        timer = asyncio.create_task(asyncio.sleep(0.001, "fired"))

        async def block() -> str:
            return await timer

        return await it.ctx.block_concurrency_while(block)

    assert await inside(stub, work) == "fired"


@pytest.mark.rule("S5.15")
async def test_sync_holds_back_http_of_your_own(
    fleet: Fleet, stub: Any, other: Any
) -> None:
    seen: list[str] = []
    on(other, "fetch")(lambda _, request: seen.append(request.path.split("/")[-1]))
    client = await fleet.http()
    url = f"/agents/probe/{other.name}"

    async def work(it: Probe, what: str) -> None:
        it.storage.put("a", what)
        if what == "synced":
            await it.storage.sync()
        async with client.get(f"{url}/{what}"):
            pass

    on(stub, "work")(work)
    for what in ("at-once", "synced"):
        await fleet.settle()
        fleet.fail_commit(stub)
        with pytest.raises(DurableError):
            await stub.do("work", what)
        await fleet.settle()
    # The first may have come although what was written before it has failed.
    assert "synced" not in seen


@pytest.mark.rule("S5.9")
async def test_a_neighbour_of_a_failed_write_notices_nothing(
    fleet: Fleet, stub: Any
) -> None:
    others = [fleet.env.Probe.get_by_name(f"{stub.name}-{n}") for n in range(20)]
    fleet.fail_commit(stub)
    results = await asyncio.gather(
        stub.add_one(), *(each.add_one() for each in others), return_exceptions=True
    )
    assert isinstance(results[0], DurableError)
    assert not isinstance(results[0], RemoteError)
    assert results[1:] == [1] * 20
    await sleep(fleet, others[0])
    assert await others[0].add_one() == 2
