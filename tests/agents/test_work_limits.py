"""What happens beyond the limits of planned work."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents import dead_letters, jobs
from agents.outbox import MAX_AGE_SECONDS
from tests.agents.working import Worker, WorkPlace


async def letters(work_place: WorkPlace) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []

    async def look(agent: Worker) -> None:
        found.extend((x.error, x.payload) for x in await agent.list_dead_letters())

    await work_place.act(look)
    return found


async def test_a_try_that_takes_too_long_has_failed(
    work_place: WorkPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RUN_SECONDS", 0.0)
    Worker.plans["note"] = lambda agent: asyncio.Event().wait()
    await work_place.act(lambda agent: agent.schedule(1, "note", "never ends"))
    await work_place.advance(10)
    ((error, payload),) = await letters(work_place)
    assert (payload, len(Worker.calls)) == ("never ends", 3)
    assert "TimeoutError" in error


async def test_of_too_many_dead_letters_the_oldest_goes(
    work_place: WorkPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "DEAD_LETTERS_KEPT", 3)

    def fail(agent: Worker) -> None:
        raise ValueError("broken")

    Worker.plans["note"] = fail

    async def plan(agent: Worker) -> None:
        for number in range(1, 6):
            await agent.schedule(number, "note", number)

    await work_place.act(plan)
    await work_place.advance(30)
    assert sorted(payload for _, payload in await letters(work_place)) == [3, 4, 5]


async def test_a_message_that_can_not_be_delivered_for_a_day_is_a_dead_letter(
    work_place: WorkPlace,
) -> None:
    def broken(agent: Worker) -> None:
        raise OSError("no disk")

    async def send(agent: Worker) -> None:
        await agent.send(agent.env.Thing.get_by_name("b"), "tally", 1)

    Worker.plans["start b"] = broken
    await work_place.act(send)
    await work_place.advance(MAX_AGE_SECONDS - 600)
    assert await letters(work_place) == []
    await work_place.advance(1200)
    ((error, payload),) = await letters(work_place)
    assert payload == [1]
    assert "did not start" in error
