"""Fixtures of chat agents."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agents.chat import chunk_log, tools
from tests.agents.chat.chatting import Chat, Room, Speech


@pytest.fixture
async def room(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    """A chat whose gathered chunks and continuations wait for a turn of the loop."""
    monkeypatch.setattr(chunk_log, "GATHER_SECONDS", 0)
    monkeypatch.setattr(tools, "GATHER_SECONDS", 0)
    Chat.asked, Chat.ended, Chat.errors, Chat.works = [], [], [], {}
    place = Room()
    yield place
    await place.close()


@pytest.fixture
def speech(room: Room) -> Speech:
    """What the chat's handler says."""
    spoken = Speech()
    room.cls.handler = lambda agent, options: spoken.stream()
    return spoken
