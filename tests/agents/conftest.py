"""Fixtures of the agents floor."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.agents.scripted_agent import (
    Closes,
    ControlledTimers,
    ScriptedAgent,
    scripted_agent,
)


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
