"""A long history: what waking up reads, and what is still true of old messages."""

from __future__ import annotations

import json
from typing import Any

from agents.chat import ui_stream as ui
from durable import Request
from tests.agents.chat.chatting import Chat, Client, Room, Speech, user

LONG = 3000


def old_call(id: str) -> dict[str, Any]:
    part = {"type": "tool-t", "toolCallId": "old", "state": "input-available"}
    return {"id": id, "role": "assistant", "parts": [{**part, "input": {}}]}


def remember(room: Room, count: int = LONG) -> list[dict[str, Any]]:
    """Put a history into "Postgres"."""
    messages = [user(f"u{number}", f"text {number}") for number in range(count)]
    messages[1] = old_call("a1")
    object_id = room.place.things.id_from_name("a")
    room.place.rows.names[object_id.value] = "a"
    rows = room.place.rows.kv.setdefault(object_id.value, {})
    for number, message in enumerate(messages, 1):
        rows["chat-messages", f"{number:012d}"] = json.dumps(message)
    rows["work", "chat-messages"] = str(count)
    return messages


async def test_waking_up_reads_the_newest_only(room: Room, speech: Speech) -> None:
    remember(room, 150)
    await room.client()
    few = len(room.place.rows.reads)
    other = Room()
    remember(other, LONG)
    await other.client()
    assert len(other.place.rows.reads) == few
    seen: list[Any] = []
    await other.act(lambda agent: seen.append([m["id"] for m in agent.messages]))
    assert seen[0] == [f"u{n}" for n in range(LONG - 200, LONG)]
    await other.close()


async def test_the_whole_history_is_there_for_who_wants_it(
    room: Room, speech: Speech
) -> None:
    messages = remember(room)
    found: list[Any] = []

    async def read(agent: Chat) -> None:
        found.append(await agent.list_messages())

    await room.act(read)
    assert found[0] == messages
    response = await room.place.stub().fetch(
        Request("GET", "http://x/agents/chat/a/get-messages")
    )
    assert await response.json() == messages


async def asked(room: Room, speech: Speech, messages: list[Any]) -> Client:
    author, _ = await room.client(), await room.client()
    author.ask("r1", *messages)
    speech.say("new")
    speech.end()
    await room.settle()
    return author


async def test_a_request_writes_only_what_is_new(room: Room, speech: Speech) -> None:
    messages = remember(room)
    await asked(room, speech, [*messages, user("new")])
    written = [
        key
        for writes in room.place.lane.commits
        for (space, key), _ in writes.rows.items()
        if space == "chat-messages"
    ]
    assert len(written) == 2
    stored = await room.stored()
    assert [m["id"] for m in stored[:-1]] == [m["id"] for m in [*messages, user("new")]]
    seen: list[Any] = []
    await room.act(lambda agent: seen.append(len(agent.messages)))
    assert seen == [200]


async def test_old_messages_are_replaced_deleted_and_answered(
    room: Room, speech: Speech
) -> None:
    messages = remember(room)
    author = await room.client()
    changed = user("u0", "changed")
    author.send("cf_agent_chat_messages", messages=[changed])
    author.send("cf_agent_tool_result", toolCallId="old", output="late")
    await room.settle()
    stored = await room.stored()
    assert len(stored) == LONG
    assert stored[0] == changed
    assert stored[1]["parts"][0]["output"] == "late"
    # All known, and fewer: what is left out goes.
    room.cls.handler = lambda agent, options: [ui.data("done", True)]
    author.ask("r1", changed, messages[2], trigger="regenerate-message")
    await room.settle()
    assert [m["id"] for m in await room.stored()][:2] == ["u0", "u2"]
    assert len(await room.stored()) == 3


async def test_a_long_history_is_trimmed_and_cleared(
    room: Room, speech: Speech, monkeypatch: Any
) -> None:
    messages = remember(room)
    monkeypatch.setattr(Chat, "max_persisted_messages", 250)
    author = await asked(room, speech, [*messages[-3:], user("new")])
    stored = await room.stored()
    assert len(stored) == 250
    assert stored[-2]["id"] == "new"
    author.send("cf_agent_chat_clear")
    await room.settle()
    assert await room.stored() == []


async def test_what_postgres_can_not_keep_is_replaced(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1", "a\0b"))
    speech.say("c\0d \\u0000")
    speech.end()
    await room.settle()
    texts = [m["parts"][-1]["text"] for m in await room.stored()]
    assert texts == ["a\ufffdb", "c\ufffdd \\u0000"]
    assert author.text("r1") == "c\ufffdd \\u0000"
