"""The stream of a turn as Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agents import Request, Response
from tests.agents.chat.chatting import Chat, Room, Speech, user


class EventChat(Chat):
    def on_request(self, request: Request) -> Response:
        return self.chat_events(request)


@pytest.fixture
async def events_room(room: Room) -> AsyncIterator[Room]:
    made = Room(EventChat)
    yield made
    await made.close()


async def opened(room: Room, last: str | None = None) -> Any:
    headers = {} if last is None else {"Last-Event-ID": last}
    return await room.place.stub().fetch(Request("GET", "http://x/y", headers=headers))


class Reader:
    """Reads a stream beside the test; ``ids`` and ``data`` are what came."""

    def __init__(self, response: Any) -> None:
        self.text = ""
        self.task = asyncio.create_task(self._read(response))

    async def _read(self, response: Any) -> None:
        async for piece in response.body:
            self.text += piece.decode()

    def of(self, field: str) -> list[str]:
        lines = self.text.splitlines()
        return [line[len(field) + 2 :] for line in lines if line.startswith(field)]


async def test_a_stream_is_followed_and_gone_on_with_at_any_event(
    events_room: Room, speech: Speech
) -> None:
    room = events_room
    EventChat.handler = lambda agent, options: speech.stream()
    author = await room.client()
    assert (await opened(room)).status == 204
    author.ask("r:1", user("u1"))
    speech.say("one")
    await room.settle()
    reader = Reader(await opened(room))
    await room.settle()
    assert reader.of("id") == [f"r:1:{n}" for n in range(4)]
    room.place.lane.hold()
    speech.say("two")
    await room.settle()
    assert len(reader.of("id")) == 4
    room.place.lane.release()
    late = Reader(await opened(room, "r:1:3"))
    speech.end()
    await room.settle()
    for one in (reader, late):
        await asyncio.wait_for(one.task, 5)
        assert one.of("data")[-1] == "[DONE]"
    assert reader.of("id") == [f"r:1:{n}" for n in range(9)]
    assert late.of("id") == [f"r:1:{n}" for n in range(4, 9)]
    assert late.of("data") == reader.of("data")[4:]
    # It has ended, and its owner is lost.
    await room.lose_owner()
    again = Reader(await opened(room, "r:1:5"))
    await asyncio.wait_for(again.task, 5)
    assert again.of("data") == reader.of("data")[6:]


async def test_what_is_no_place_in_a_stream_is_none(
    events_room: Room, speech: Speech
) -> None:
    for last in ("", "r1", "r1:x", "r1:-1", "unknown:3", "r1:99999999999"):
        assert (await opened(events_room, last)).status == 204
