"""Section 7: how an object wakes, sleeps and ends."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from durable import Aborted, StartFailed
from durable.testing import Fleet
from tests.parity.probe import (
    Gate,
    Probe,
    elsewhere,
    inside,
    on,
    own_fleet,
    sleep,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.rule("S7.1")
async def test_the_constructor_runs_on_each_wake_before_the_event(
    fleet: Fleet, stub: Any
) -> None:
    on(stub, "constructor")(lambda it: it.memory.append("made"))
    await stub.remember("event")
    assert await stub.remembered() == ["made", "event"]
    await sleep(fleet, stub)
    assert await stub.remembered() == ["made"]
    assert Probe.lives[stub.name] == 2


@pytest.mark.rule("S7.2")
async def test_the_constructor_may_block_concurrency_to_read(
    fleet: Fleet, stub: Any
) -> None:
    await stub.add_one()
    await sleep(fleet, stub)

    @on(stub, "constructor")
    def construct(it: Probe) -> None:
        async def load() -> None:
            await asyncio.sleep(0.001)
            it.memory.append(await it.storage.get("n"))

        it.ctx.block_concurrency_while(load)

    assert await stub.remembered() == [1]


@pytest.mark.rule("S7.3")
async def test_a_constructor_that_raises_fails_the_event_and_the_next_tries_again(
    stub: Any,
) -> None:
    @on(stub, "constructor")
    def construct(it: Probe) -> None:
        if Probe.lives[stub.name] == 1:
            raise ValueError("not today")

    with pytest.raises(StartFailed, match="not today"):
        await stub.add_one()
    assert await stub.add_one() == 1


@pytest.mark.rule("S7.4", "S7.5")
async def test_an_idle_object_loses_its_memory_and_keeps_its_sockets(
    durable_postgres: str,
) -> None:
    def say(it: Probe) -> None:
        it.ctx.get_websockets("red")[0].send("hello")

    limits = {"idle_seconds": 0.05}
    async with own_fleet(durable_postgres, settings=limits) as fleet:
        stub = fleet.env.Probe.get_by_name("idle")
        on(stub, "connected")(lambda _, ws, __: ws.serialize_attachment({"who": "ann"}))
        http = await fleet.http()
        async with http.ws_connect("/agents/probe/idle?tag=red") as socket:
            lives = 0
            async with asyncio.timeout(10):
                # Asked seldom enough, it falls asleep in between.
                while lives < 2:
                    await asyncio.sleep(0.2)
                    await stub.remembered()
                    lives = Probe.lives["idle"]
            await inside(stub, say)
            assert await socket.receive_str(timeout=5) == "hello"
            attached = await inside(
                stub, lambda it: it.ctx.get_websockets()[0].deserialize_attachment()
            )
            assert attached == {"who": "ann"}


@pytest.mark.rule("S7.6")
async def test_wait_until_holds_off_sleep_and_not_the_reply(
    fleet: Fleet, stub: Any
) -> None:
    gate, done = Gate(), []

    async def work(it: Probe) -> None:
        await gate()
        it.storage.put("after", True)
        done.append(it.memory)

    await stub.remember("same life")
    # The reply is there, the work isn't done.
    await inside(stub, lambda it: it.ctx.wait_until(work(it)))
    await gate.reached()
    evicting = asyncio.create_task(fleet.evict(stub))
    gate.open()
    await evicting
    assert done == [["same life"]]
    assert await inside(stub, lambda it: it.storage.get("after"))


@pytest.mark.rule("S7.7")
async def test_a_failure_in_wait_until_is_logged_only(
    fleet: Fleet, stub: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        raise ValueError("behind the reply")

    await stub.remember("same life")
    with caplog.at_level(logging.ERROR):
        await inside(stub, lambda it: it.ctx.wait_until(work()))
        await fleet.settle()
    assert "behind the reply" in caplog.text
    assert await stub.remembered() == ["same life"]


@pytest.mark.rule("S7.8")
async def test_abort_ends_the_instance_and_callers_get_the_reason(stub: Any) -> None:
    gate = Gate()

    def end(it: Probe) -> None:
        it.storage.put("lost", True)
        it.ctx.abort("enough")

    await stub.remember("memory")
    waiting = asyncio.create_task(inside(stub, lambda _: gate()))
    await gate.reached()
    for ended in (inside(stub, end), waiting):
        with pytest.raises(Aborted, match="enough"):
            await ended
    assert await stub.remembered() == []
    assert await inside(stub, lambda it: it.storage.get("lost")) is None


@pytest.mark.rule("S7.9")
async def test_an_object_that_is_evicted_while_it_writes_loses_nothing(
    fleet: Fleet, stub: Any
) -> None:
    for n in range(1, 11):
        assert await stub.add_one() == n
        await fleet.evict(stub)  # or it has just moved: then it sleeps, too


@pytest.mark.rule("S7.10")
async def test_a_drained_node_hands_its_objects_over(durable_postgres: str) -> None:
    async with own_fleet(durable_postgres, nodes=2) as fleet:
        names = [f"drained-{n}" for n in range(20)]
        env = fleet.env
        await asyncio.gather(*(env.Probe.get_by_name(n).add_one() for n in names))
        await fleet.nodes[0].stop()
        env = fleet.env
        found = [env.Probe.get_by_name(name).add_one() for name in names]
        assert await asyncio.gather(*found) == [2] * 20


@pytest.mark.rule("S7.11")
async def test_a_crash_loses_memory_and_nothing_that_was_acknowledged(
    durable_postgres: str,
) -> None:
    async with own_fleet(durable_postgres, nodes=2) as fleet:
        stubs = await elsewhere(fleet, 5)
        assert await asyncio.gather(*(s.add_one() for s in stubs)) == [1] * 5
        await asyncio.gather(*(stub.remember("memory") for stub in stubs))
        await fleet.nodes[1].crash()
        for stub in stubs:
            assert await stub.add_one() == 2
            assert await stub.remembered() == []


@pytest.mark.rule("S7.12")
async def test_on_deactivate_runs_before_an_idle_object_sleeps_and_may_write(
    durable_postgres: str,
) -> None:
    told: list[str] = []

    async def farewell(it: Probe, reason: str) -> None:
        told.append(reason)
        it.storage.put("last words", it.memory)

    limits = {"idle_seconds": 0.05}
    async with own_fleet(durable_postgres, settings=limits) as fleet:
        stub = fleet.env.Farewell.get_by_name("idle")
        on(stub, "deactivate")(farewell)
        await stub.remember("memory")
        await until(lambda: told)
        kept = await inside(stub, lambda it: it.storage.get("last words"))
    assert kept == ["memory"]
    assert told[0] == "idle"


@pytest.mark.rule("S7.12")
async def test_on_deactivate_has_ended_when_the_next_instance_begins(
    fleet: Fleet, stub: Any
) -> None:
    stub = fleet.env.Farewell.get_by_name(stub.name)

    async def farewell(it: Probe, _: str) -> None:
        await asyncio.sleep(0.01)
        it.storage.put("last words", it.memory)

    async def load(it: Probe) -> None:
        it.memory = await it.storage.get("last words") or []

    def construct(it: Probe) -> None:
        it.ctx.block_concurrency_while(lambda: load(it))

    on(stub, "deactivate")(farewell)
    on(stub, "constructor")(construct)
    for n in range(3):
        assert await stub.remembered() == list(range(n))
        await stub.remember(n)
        evicting = asyncio.create_task(fleet.evict(stub))
        await asyncio.sleep(0)
        assert await stub.remembered() == list(range(n + 1))
        await evicting


@pytest.mark.rule("S7.12")
async def test_on_deactivate_runs_before_an_object_moves(durable_postgres: str) -> None:
    told: list[str] = []
    async with own_fleet(durable_postgres, nodes=2) as fleet:
        stub = fleet.env.Farewell.get_by_name("moves")
        on(stub, "deactivate")(lambda _, reason: told.append(reason))
        await stub.remember("memory")
        for node in fleet.nodes:
            await node.stop()
            if told:
                break
    assert told == ["moved"]
