"""Messages between agents: with the sender's commit, in order, applied once."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from typing import Any

import pytest

from durable import ResetError, ValueRefused
from tests.agents.working import Worker, WorkPlace
from tests.objects.scripted import turns


def tally(place: WorkPlace, name: str = "b") -> list[int]:
    stored = place.stored(name).get("tally", "[]")
    numbers: list[int] = json.loads(stored)
    return numbers


def sending(*numbers: int, to: str = "b") -> Any:
    async def send(agent: Worker) -> None:
        for number in numbers:
            await agent.send(agent.env.Thing.get_by_name(to), "tally", number)

    return send


async def test_messages_are_applied_in_order_and_leave_one_mark(
    work_place: WorkPlace,
) -> None:
    await work_place.act(sending(1, 2, 3))
    await work_place.act(sending(9, to="c"))
    await work_place.advance(1)
    assert tally(work_place) == [1, 2, 3]
    assert tally(work_place, "c") == [9]
    assert work_place.stored(space="work-outbox") == {}
    (mark,) = work_place.stored("b", space="work-inbox").values()
    assert json.loads(mark)["number"] == 3
    await work_place.advance(31)
    assert work_place.due() is None


async def test_what_is_rolled_back_is_not_sent(work_place: WorkPlace) -> None:
    async def plan(agent: Worker) -> None:
        with suppress(ZeroDivisionError):
            async with agent.ctx.storage.transaction():
                await sending(1)(agent)
                raise ZeroDivisionError
        await sending(2)(agent)

    await work_place.act(plan)
    await work_place.advance(1)
    assert tally(work_place) == [2]


async def test_a_message_that_comes_again_is_ignored(work_place: WorkPlace) -> None:
    receiver = work_place.stub("b")
    for epoch, number in [("1", 1), ("1", 1), ("1", 3), ("1", 2), ("2", 1), ("1", 4)]:
        args = [int(epoch) * 10 + number]
        await receiver.deliver_message("sender", epoch, number, "tally", args)
    assert tally(work_place) == [11, 13, 21]


async def test_a_message_that_fails_is_rolled_back_tried_again_and_a_dead_letter(
    work_place: WorkPlace,
) -> None:
    def fail(agent: Worker) -> None:
        raise ValueError("not now")

    Worker.plans["tally"] = fail
    await work_place.act(sending(1))
    await work_place.advance(1)
    assert tally(work_place) == []
    assert Worker.errors == ["RemoteError: not now"]
    Worker.plans.clear()
    await work_place.act(sending(2))
    await work_place.advance(1)
    assert tally(work_place) == [2]

    async def replay(agent: Worker) -> None:
        (letter,) = await agent.list_dead_letters()
        assert (letter.kind, letter.callback, letter.payload) == (
            "message",
            "tally",
            [1],
        )
        await agent.replay_dead_letter(letter.id)

    await work_place.act(replay)
    await work_place.advance(31)
    assert tally(work_place) == [2, 1]


async def test_an_agent_that_can_not_start_gets_its_messages_when_it_can(
    work_place: WorkPlace,
) -> None:
    def broken(agent: Worker) -> None:
        raise OSError("no disk")

    Worker.plans["start b"] = broken
    await work_place.act(sending(1, 2))
    await work_place.act(sending(9, to="c"))
    await work_place.advance(60)
    assert tally(work_place) == []
    assert tally(work_place, "c") == [9], "others don't wait for it"
    assert Worker.errors == []
    Worker.plans.clear()
    await work_place.advance(64)
    assert tally(work_place) == [1, 2]


async def test_an_agent_that_was_destroyed_begins_to_count_anew(
    work_place: WorkPlace,
) -> None:
    await work_place.act(sending(1, 2))
    await work_place.advance(1)
    await work_place.act(lambda agent: agent.destroy())
    await turns()
    await work_place.act(sending(3))
    await work_place.advance(1)
    assert tally(work_place) == [1, 2, 3]


async def test_only_stubs_public_methods_and_json_are_taken(
    work_place: WorkPlace,
) -> None:
    async def plan(agent: Worker) -> None:
        other = agent.env.Thing.get_by_name("b")
        with pytest.raises(TypeError, match="takes a stub"):
            await agent.send("b", "tally", 1)
        for method in ("_note", ""):
            with pytest.raises(ValueError, match="public method"):
                await agent.send(other, method)
        with pytest.raises(ValueRefused, match=r"payload\[0\]"):
            await agent.send(other, "tally", {1, 2})

    await work_place.act(plan)
    assert work_place.rows.kv == {}


@pytest.mark.parametrize("seed", range(6))
async def test_each_message_is_applied_once_whatever_crashes(
    work_place: WorkPlace, seed: int
) -> None:
    """Sender and receiver crash at random moments; a ledger is in the storage."""
    dice = random.Random(seed)
    sent = 0
    for _ in range(60):
        with suppress(ResetError):
            await work_place.act(sending(*range(sent, sent + 3)))
            sent += 3
        await turns()
        work_place.clock.time += dice.choice([0, 1, 40])
        work_place.begin_due()
        await turns(dice.randrange(60))
        for name in dice.choice(["a", "a", "b", "ab", ""]):
            with suppress(KeyError):
                await work_place.crash(name)
    await work_place.advance(600)
    assert tally(work_place) == [*range(sent)]
    assert work_place.stored(space="work-outbox") == {}
