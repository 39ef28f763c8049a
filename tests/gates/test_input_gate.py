"""Who may enter an object, turn by turn of the event loop: nothing here sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from durable.gates.input_gate import InputGate


async def turns(count: int = 10) -> None:
    """Let the event loop go round, so that whatever can go on goes on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def event(gate: InputGate, log: list[str], name: str) -> None:
    await gate.enter()
    log.append(name)


async def test_an_open_gate_lets_in_at_once() -> None:
    gate = InputGate()
    log: list[str] = []
    entering = event(gate, log, "a")
    with pytest.raises(StopIteration):
        entering.send(None)
    assert log == ["a"]


async def test_events_wait_at_a_shut_gate_and_enter_in_order() -> None:
    gate = InputGate()
    log: list[str] = []
    gate.lock()
    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(event(gate, log, name))
        await turns()
        assert (log, gate.waiting, gate.is_open) == ([], 3, False)
        gate.unlock()
    assert log == ["a", "b", "c"]
    await turns()
    assert gate.is_open


async def test_each_lock_needs_its_unlock() -> None:
    gate = InputGate()
    log: list[str] = []
    gate.lock()
    gate.lock()
    waiting = asyncio.create_task(event(gate, log, "a"))
    gate.unlock()
    await turns()
    assert log == []
    gate.unlock()
    await waiting
    assert log == ["a"]


async def test_an_event_that_locks_before_it_suspends_shuts_out_the_next() -> None:
    gate = InputGate()
    log: list[str] = []
    go_on = asyncio.Event()

    async def reads_first(name: str) -> None:
        await gate.enter()
        gate.lock()
        log.append(f"{name} in")
        await go_on.wait()
        gate.unlock()
        log.append(f"{name} out")

    gate.lock()
    async with asyncio.TaskGroup() as group:
        group.create_task(reads_first("a"))
        group.create_task(reads_first("b"))
        await turns()
        gate.unlock()
        await turns()
        assert log == ["a in"]
        go_on.set()
    assert log == ["a in", "a out", "b in", "b out"]


async def test_who_got_its_turn_waits_again_if_the_gate_was_shut_in_between() -> None:
    gate = InputGate()
    log: list[str] = []
    gate.lock()
    first = asyncio.create_task(event(gate, log, "first"))
    second = asyncio.create_task(event(gate, log, "second"))
    await turns()

    async def reads_twice() -> None:
        gate.unlock()
        # The code that goes on reads again before it suspends.
        gate.lock()

    await reads_twice()
    await turns()
    assert log == []
    gate.unlock()
    await asyncio.gather(first, second)
    assert log == ["first", "second"]


async def through_a_task(work: Callable[[], None]) -> None:
    async def run() -> None:
        work()

    await asyncio.ensure_future(run())


async def through_gather(work: Callable[[], None]) -> None:
    async def run() -> None:
        work()

    async def nothing() -> None:
        pass

    await asyncio.gather(nothing(), run())


async def through_a_group(work: Callable[[], None]) -> None:
    async def run() -> None:
        work()

    async with asyncio.TaskGroup() as group:
        group.create_task(run())


@pytest.mark.parametrize("wait", [through_a_task, through_gather, through_a_group])
@pytest.mark.parametrize("arrives", ["early", "late"])
async def test_who_awaits_a_read_in_a_task_goes_on_before_the_next_event(
    wait: Callable[[Callable[[], None]], asyncio.Future[None]], arrives: str
) -> None:
    """A read's end reaches its reader over some turns of the loop: nobody enters."""
    gate = InputGate()
    log: list[str] = []
    entering: list[asyncio.Task[None]] = []

    async def reader() -> None:
        gate.lock()
        if arrives == "early":
            entering.append(asyncio.create_task(event(gate, log, "event")))
            await asyncio.sleep(0)
        await wait(read_ends)
        log.append("reader")

    def read_ends() -> None:
        gate.unlock()
        if arrives == "late":
            entering.append(asyncio.create_task(event(gate, log, "event")))

    await reader()
    await asyncio.gather(*entering)
    assert log == ["reader", "event"]


async def test_a_cancelled_waiter_leaves_the_queue_to_the_others() -> None:
    gate = InputGate()
    log: list[str] = []
    gate.lock()
    tasks = [asyncio.create_task(event(gate, log, name)) for name in "abc"]
    await turns()
    tasks[0].cancel()
    await turns()
    assert gate.waiting == 2
    gate.unlock()
    await asyncio.gather(*tasks[1:])
    assert log == ["b", "c"]


async def test_a_waiter_cancelled_when_its_turn_came_passes_it_on() -> None:
    gate = InputGate()
    log: list[str] = []
    gate.lock()
    tasks = [asyncio.create_task(event(gate, log, name)) for name in "ab"]
    await turns()
    gate.unlock()
    for _ in range(10):
        if gate.waiting == 1:
            break
        await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert log == ["b"]


async def test_a_broken_gate_refuses_those_who_wait_and_those_who_come() -> None:
    gate = InputGate()
    log: list[str] = []
    gate.lock()
    waiting = asyncio.create_task(event(gate, log, "a"))
    await turns()
    gate.break_(RuntimeError("reset"))
    gate.break_(RuntimeError("a later reason"))
    for entering in (waiting, asyncio.create_task(event(gate, log, "b"))):
        with pytest.raises(RuntimeError, match=r"^reset$"):
            await entering
    gate.unlock()
    await turns()
    assert (log, gate.is_open) == ([], False)


async def test_who_got_its_turn_is_refused_if_the_gate_broke_in_between() -> None:
    gate = InputGate()
    log: list[str] = []
    gate.lock()
    waiting = asyncio.create_task(event(gate, log, "a"))
    await turns()
    gate.unlock()
    gate.break_(RuntimeError("reset"))
    with pytest.raises(RuntimeError, match="reset"):
        await waiting
    assert log == []
