"""Work that raises or never returns costs its neighbours nothing and is not lost."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from agents import Agent, Schedule, jobs
from durable import now
from durable.testing import Fleet


class Worker(Agent[Any, Any]):
    """Does well, unless its name says otherwise."""

    mended: ClassVar[bool] = False
    begun: ClassVar[dict[str, list[float]]] = {}

    async def plan(self, *delays: float) -> None:
        for delay in delays:
            await self.schedule(delay, "work", self.name)

    async def work(self, payload: str, task: Schedule) -> None:
        self.begun.setdefault(self.name, []).append(now().timestamp() - task.time)
        if self.name == "raises" and not self.mended:
            raise ValueError("broken")
        if self.name == "hangs" and not self.mended:
            await asyncio.Event().wait()

    async def letters(self) -> list[str]:
        return [letter.error for letter in await self.list_dead_letters()]

    async def replay(self) -> int:
        letters = await self.list_dead_letters()
        return sum([await self.replay_dead_letter(letter.id) for letter in letters])


@pytest.fixture
def durable_app(monkeypatch: pytest.MonkeyPatch) -> list[type[Worker]]:
    monkeypatch.setattr(jobs, "RUN_SECONDS", 0.05)
    monkeypatch.setattr(Worker, "begun", {})
    monkeypatch.setattr(Worker, "mended", False)
    return [Worker]


async def test_poison_ends_in_the_dead_letters_and_can_be_replayed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["raises", "hangs", *(f"healthy{n}" for n in range(20))]
    workers = {name: fleet.env.Worker.get_by_name(name) for name in names}
    for worker in workers.values():
        await worker.plan(10, 20)
    await fleet.clock.advance(minutes=2)
    for name in names[2:]:
        assert Worker.begun[name] == [0, 0], "a neighbour was late"
    assert await workers["raises"].letters() == ["ValueError: broken"] * 2
    errors = await workers["hangs"].letters()
    assert len(errors) == 2
    assert all("TimeoutError" in error for error in errors)
    monkeypatch.setattr(Worker, "mended", True)
    for name in ("raises", "hangs"):
        assert await workers[name].replay() == 2
    await fleet.clock.advance(minutes=1)
    for name in ("raises", "hangs"):
        assert await workers[name].letters() == []
        assert len(Worker.begun[name]) == 2 * 3 + 2
