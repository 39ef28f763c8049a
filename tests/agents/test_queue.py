"""The queue of an agent, on a controlled clock."""

from __future__ import annotations

import asyncio

import pytest

from tests.agents.working import START, Worker, WorkPlace, payloads


async def test_items_run_in_order_one_at_a_time_and_soon(work_place: WorkPlace) -> None:
    running: list[int] = []

    async def slow(agent: Worker) -> None:
        running.append(1)
        assert len(running) == 1
        await agent.clock.sleep(2)
        running.pop()

    Worker.plans["note"] = slow

    async def plan(agent: Worker) -> None:
        for number in range(4):
            await agent.queue("note", number)

    await work_place.act(plan)
    await work_place.advance(5)
    await work_place.act(lambda agent: agent.queue(agent.plain, "last"))
    await work_place.advance(20)
    assert [(payload, at) for _, payload, at in Worker.calls] == [
        (0, 0),
        (1, 2),
        (2, 4),
        (3, 6),
        ("last", 8),
    ]
    assert work_place.stored(space="work-queue") == {}
    assert work_place.stored(space="work-queue-ids") == {}
    await work_place.advance(30)
    assert work_place.due() is None


async def test_items_are_found_and_taken_out(work_place: WorkPlace) -> None:
    async def plan(agent: Worker) -> None:
        first = await agent.queue("note", {"to": "ann"})
        await agent.queue("note", {"to": "bob"}, id="mine")
        assert await agent.queue("note", "a second one", id="mine") == "mine"
        await agent.queue("plain", "p")
        await agent.queue("plain", "q")
        item = await agent.get_queue(first)
        assert item is not None
        assert (item.callback, item.created_at) == ("note", START)
        assert [i.id for i in await agent.get_queues("to", "bob")] == ["mine"]
        assert len(await agent.get_queues()) == 4
        assert await agent.dequeue("mine") is True
        assert await agent.dequeue("mine") is False
        assert await agent.get_queue("mine") is None
        assert await agent.dequeue_all_by_callback("plain") == 2
        assert await agent.dequeue_all() == 1

    await work_place.act(plan)
    await work_place.advance(60)
    assert Worker.calls == []


async def test_an_item_that_fails_is_a_dead_letter_and_the_next_one_runs(
    work_place: WorkPlace,
) -> None:
    def fail(agent: Worker) -> None:
        if payloads()[-1] == "bad":
            raise OSError("no network")

    Worker.plans["note"] = fail

    async def plan(agent: Worker) -> None:
        await agent.queue("note", "bad", retry={"max_attempts": 2, "base_delay": 1})
        await agent.queue("note", "good")

    await work_place.act(plan)
    await work_place.advance(5)
    assert payloads() == ["bad", "bad", "good"]
    assert Worker.calls[1][2] == 1.0
    assert Worker.errors == ["OSError: no network"]

    async def replay(agent: Worker) -> None:
        (letter,) = await agent.list_dead_letters()
        assert (letter.kind, letter.payload) == ("queue", "bad")
        Worker.plans.clear()
        await agent.replay_dead_letter(letter.id)

    await work_place.act(replay)
    await work_place.advance(31)
    assert payloads()[3:] == ["bad"]


async def test_after_a_crash_the_next_owner_goes_on_with_the_same_item(
    work_place: WorkPlace,
) -> None:
    Worker.plans["note"] = lambda agent: asyncio.Event().wait()

    async def plan(agent: Worker) -> None:
        await agent.queue("note", 1)
        await agent.queue("plain", 2)

    await work_place.act(plan)
    await work_place.advance(1)
    assert payloads() == [1]
    await work_place.crash()
    Worker.plans.clear()
    await work_place.advance(30)
    assert payloads() == [1, 1, 2]


async def test_a_slow_item_does_not_hold_up_schedules(work_place: WorkPlace) -> None:
    Worker.plans["note"] = lambda agent: agent.clock.sleep(100)

    async def plan(agent: Worker) -> None:
        await agent.queue("note", "slow")
        await agent.schedule(10, "plain", "on time")

    await work_place.act(plan)
    await work_place.advance(20)
    assert Worker.calls == [("a", "slow", 0), ("a", "on time", 10)]


async def test_a_hundred_items_need_few_reads(work_place: WorkPlace) -> None:
    async def plan(agent: Worker) -> None:
        for number in range(300):
            await agent.queue("note", number)

    await work_place.act(plan)
    await work_place.advance(0)
    while len(Worker.calls) < 300:
        await work_place.advance(0)
    assert payloads() == [*range(300)]


async def test_an_unknown_callback_is_refused(work_place: WorkPlace) -> None:
    async def plan(agent: Worker) -> None:
        with pytest.raises(AttributeError, match="no method 'nothing'"):
            await agent.queue("nothing")

    await work_place.act(plan)
