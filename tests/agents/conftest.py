"""Fixtures of the agents floor."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agents import work_clock
from tests.agents.scripted_agent import (
    Closes,
    ControlledTimers,
    ScriptedAgent,
    scripted_agent,
)
from tests.agents.working import TestClock, Worker, WorkPlace


@pytest.fixture
async def server() -> AsyncIterator[ScriptedAgent]:
    async with scripted_agent() as agent:
        yield agent


@pytest.fixture
def timers() -> ControlledTimers:
    return ControlledTimers()


@pytest.fixture
def closes() -> Closes:
    return Closes()


@pytest.fixture
def work_place(monkeypatch: pytest.MonkeyPatch) -> WorkPlace:
    clock = TestClock()
    monkeypatch.setattr(work_clock, "clock", clock)
    Worker.works, Worker.plans, Worker.calls, Worker.errors = {}, {}, [], []
    Worker.clock = clock
    return WorkPlace(Worker, clock)
