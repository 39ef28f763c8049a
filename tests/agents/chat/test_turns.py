"""Turns of a chat agent: who hears what, in which order, and what is stored then."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agents.chat import ui_stream as ui
from agents.chat.turn_order import concurrency_of
from durable import Response
from tests.agents.chat.chatting import Chat, Room, Speech, user

WHOLE = [
    "start",
    "start-step",
    "text-start",
    "text-delta",
    "text-end",
    "finish-step",
    "finish",
]


async def test_an_answer_streams_to_all_and_is_stored_before_its_end(
    room: Room, speech: Speech
) -> None:
    author, other = await room.client(), await room.client()
    author.ask("r1", user("u1"), model="m")
    speech.say("Hello")
    speech.end()
    await room.settle()
    assert author.kinds() == [*WHOLE, "done"]
    assert other.kinds()[0] == "messages u1"
    frames = other.frames
    assert [f["type"] for f in frames[-2:]] == [
        "cf_agent_chat_messages",
        "cf_agent_use_chat_response",
    ]
    assert frames[-1] == {
        "type": "cf_agent_use_chat_response",
        "id": "r1",
        "body": "",
        "done": True,
        "messageIds": ["u1"],
    }
    [asked, answer] = await room.stored()
    assert asked == user("u1")
    assert answer["id"].startswith("assistant_")
    assert answer["id"] == author.chunks("r1")[0]["messageId"]
    assert answer["parts"][1] == {"type": "text", "text": "Hello", "state": "done"}
    assert Chat.asked[0].body == {"model": "m"}
    assert Chat.asked[0].request_id == "r1"
    [ended] = Chat.ended
    assert (ended.status, ended.message, ended.error) == ("completed", answer, None)


async def test_the_end_is_held_back_until_the_answer_is_durable(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    speech.say("Hello")
    await room.settle()
    author.news()
    room.place.lane.hold()
    speech.end()
    await room.settle()
    assert author.kinds() == []
    room.place.lane.release()
    await room.settle()
    assert author.kinds() == ["text-end", "finish-step", "finish", "done"]
    assert len(await room.stored()) == 2


async def test_no_chunk_is_heard_that_the_log_lacks(room: Room, speech: Speech) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    speech.say("one")
    await room.settle()
    room.place.lane.hold()
    speech.say("two")
    await room.settle()
    room.place.lane.lose(landed=False)
    await room.settle()
    assert author.text("r1") == "one"


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("plain", "plain"),
        (["a", "b"], "ab"),
        (ui.text("c"), "c"),
        ({"type": "text-start", "id": "1"}, None),
    ],
)
async def test_what_a_handler_may_return(room: Room, result: Any, text: Any) -> None:
    room.cls.handler = lambda agent, options: result
    author = await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    assert author.kinds()[-1] == "done"
    if text is not None:
        assert author.text("r1") == text
    assert len(await room.stored()) == 2


async def test_plain_text_of_a_response(room: Room) -> None:
    async def pieces() -> Any:
        yield "hé".encode()[:2]
        yield "hé".encode()[2:] + b"!"

    async def answer(agent: Chat, options: Any) -> Response:
        return Response(pieces())

    room.cls.handler = answer
    author = await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    assert author.chunks("r1") == [
        {"type": "text-start", "id": "r1"},
        {"type": "text-delta", "id": "r1", "delta": "h"},
        {"type": "text-delta", "id": "r1", "delta": "é!"},
        {"type": "text-end", "id": "r1"},
    ]
    [_, stored] = await room.stored()
    assert stored["parts"] == [{"type": "text", "text": "hé!", "state": "done"}]


async def test_chunks_of_a_response_of_events(room: Room) -> None:
    chunks = [
        {"type": "start", "messageId": "theirs"},
        *ui.text("hi", "t"),
        {"type": "finish", "finishReason": "stop", "messageMetadata": {"a": 1}},
    ]
    lines = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)

    async def pieces() -> Any:
        text = lines + "data: [DONE]\n\n"
        for at in range(0, len(text), 7):
            yield text[at : at + 7]

    headers = {"Content-Type": "text/event-stream; charset=utf-8"}
    room.cls.handler = lambda agent, options: Response(pieces(), headers=headers)
    author = await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    metadata = {"a": 1, "finishReason": "stop"}
    assert author.chunks("r1")[-1] == {"type": "finish", "messageMetadata": metadata}
    [_, stored] = await room.stored()
    assert (stored["id"], stored["metadata"]) == ("theirs", metadata)


async def test_a_handler_that_raises_is_heard_of(room: Room) -> None:
    def fail(agent: Chat, options: Any) -> Any:
        raise ValueError("no model")

    room.cls.handler = fail
    author = await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    [frame] = author.news()
    assert (frame["done"], frame["error"], frame["body"]) == (True, True, "no model")
    assert Chat.errors == ["ValueError: no model"]
    assert [m["id"] for m in await room.stored()] == ["u1"]
    assert [(e.status, e.error) for e in Chat.ended] == [("error", "no model")]


async def test_a_stream_that_breaks_keeps_what_was_said(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    speech.say("half", RuntimeError("gone"))
    await room.settle()
    assert author.kinds() == [*WHOLE[:4], "done error"]
    [_, stored] = await room.stored()
    assert stored["parts"][1] == {"type": "text", "text": "half", "state": "streaming"}


async def test_an_error_chunk_is_told_and_then_the_end(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    speech.say("half", ui.error("overloaded"))
    await room.settle()
    assert author.kinds() == [*WHOLE[:4], "error", "done error"]
    told, end = author.frames[-2:]
    assert (told["body"], told["error"], told["done"]) == ("overloaded", True, False)
    assert (end["body"], end["done"], end["outcome"]) == ("", True, "error")
    assert "error" not in end


async def test_nothing_returned_is_said(room: Room) -> None:
    room.cls.handler = lambda agent, options: None
    author = await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    [frame] = author.news()
    assert frame["body"] == "No response was generated by the agent."
    assert (frame["done"], frame["outcome"]) == (True, "completed")


async def test_bad_requests_are_ignored(room: Room, speech: Speech) -> None:
    author = await room.client()
    for init in (
        {"method": "GET", "body": '{"messages": []}'},
        {"method": "POST", "body": ""},
        {"method": "POST", "body": "{"},
        {"method": "POST", "body": "[]"},
        {"method": "POST", "body": '{"messages": 1}'},
        None,
    ):
        author.send("cf_agent_use_chat_request", id="r", init=init)
    author.send("cf_agent_chat_request_cancel", id=["r"])
    author.send("cf_agent_tool_result", toolCallId=7)
    await room.settle()
    assert author.kinds() == []
    assert Chat.asked == []


async def test_cancelling_keeps_what_was_said_and_closes_the_stream(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    speech.say("half")
    await room.settle()
    author.send("cf_agent_chat_request_cancel", id="r1")
    await room.settle()
    assert author.kinds() == [*WHOLE[:4], "done aborted"]
    assert speech.closed
    assert Chat.asked[0].abort_signal.aborted
    [_, stored] = await room.stored()
    assert stored["parts"][1]["text"] == "half"
    assert [e.status for e in Chat.ended] == ["aborted"]


async def test_a_turn_goes_on_when_its_author_has_left(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    record = author.port.record
    assert author.port.object_id is not None
    room.place.dispatcher.socket_closed(author.port.object_id, record, 1001, "", True)
    speech.say("all")
    speech.end()
    await room.settle()
    assert len(await room.stored()) == 2


async def test_turns_wait_for_one_another(room: Room, speech: Speech) -> None:
    author, other = await room.client(), await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    other.ask("r2", user("u1"), user("u2"))
    await room.settle()
    assert len(Chat.asked) == 1
    other.send("cf_agent_chat_request_cancel", id="r2")
    other.ask("r3", user("u1"), user("u2"))
    await room.settle()
    assert "done aborted" in other.kinds()
    speech.end()
    await room.settle()
    speech.end()
    await room.settle()
    assert [o.request_id for o in Chat.asked] == ["r1", "r3"]


async def test_drop_and_reject_send_the_transcript_back(
    room: Room, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    for strategy, end in (("drop", "done skipped"), ("reject", "done error")):
        monkeypatch.setattr(Chat, "chat_concurrency", _strategy(strategy))
        author.ask(strategy, user("u1"), user("u2"))
        await room.settle()
        assert author.kinds() == ["messages u1", end]
    assert [m["id"] for m in await room.stored()] == ["u1"]


async def test_latest_skips_those_that_wait(
    room: Room, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chat, "chat_concurrency", _strategy("latest"))
    author = await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    author.ask("r2", user("u1"), user("u2"))
    author.ask("r3", user("u1"), user("u2"), user("u3"))
    await room.settle()
    assert author.kinds() == ["done skipped"]
    for _ in range(2):
        speech.end()
        await room.settle()
    assert [o.request_id for o in Chat.asked] == ["r1", "r3"]
    assert [m["id"] for m in await room.stored()] == ["u1", "u2", "u3"]


async def test_merge_makes_one_message_of_those_that_wait(
    room: Room, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chat, "chat_concurrency", _strategy("merge"))
    author = await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    author.ask("r2", user("u1"), user("u2", "two"))
    author.ask("r3", user("u1"), user("u2", "two"), user("u3", "three"))
    await room.settle()
    for _ in range(2):
        speech.end()
        await room.settle()
    stored = [m for m in await room.stored() if m["role"] == "user"]
    assert [m["id"] for m in stored] == ["u1", "u3"]
    assert [part["text"] for part in stored[1]["parts"]] == ["two", "three"]


async def test_interrupt_stops_and_rollback_leaves_no_trace(
    room: Room, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    speech.say("one")
    await room.settle()
    monkeypatch.setattr(Chat, "chat_concurrency", _strategy("interrupt"))
    author.ask("r2", user("u1"), user("u2"))
    await room.settle()
    assert "done aborted" in author.kinds()
    assert len(await room.stored()) == 3
    speech.say("two")
    await room.settle()
    monkeypatch.setattr(Chat, "chat_concurrency", _strategy("rollback"))
    author.ask("r3", user("u1"), user("u2"), user("u3"))
    await room.settle()
    speech.say("three")
    speech.end()
    await room.settle()
    texts = [m["parts"][-1]["text"] for m in await room.stored()]
    assert texts == ["hi", "one", "hi", "three"]
    assert "u2" not in [m["id"] for m in await room.stored()]
    assert len(room.place.stored(space="chat-turns")) == 2


async def test_regenerate_removes_the_answer_first(room: Room, speech: Speech) -> None:
    author = await room.client()
    for id, said in (("r1", "first"), ("r2", "second")):
        trigger = "submit-message" if id == "r1" else "regenerate-message"
        author.ask(id, user("u1"), trigger=trigger)
        speech.say(said)
        speech.end()
        await room.settle()
    assert [m["parts"][-1]["text"] for m in await room.stored()] == ["hi", "second"]


async def test_fewer_messages_delete_nothing_unless_a_request_knows_them(
    room: Room, speech: Speech
) -> None:
    author, other = await room.client(), await room.client()
    messages = [user("u1"), user("u2"), user("u3")]
    author.send("cf_agent_chat_messages", messages=messages)
    author.send("cf_agent_chat_messages", messages=messages[:1])
    await room.settle()
    assert other.kinds() == ["messages u1,u2,u3"] * 2
    assert author.kinds() == []
    assert len(await room.stored()) == 3


async def test_clearing_stops_and_forgets_and_tells_the_others(
    room: Room, speech: Speech
) -> None:
    author, other = await room.client(), await room.client()
    author.ask("r1", user("u1"))
    author.ask("r2", user("u1"), user("u2"))
    speech.say("half")
    await room.settle()
    author.news(), other.news()
    author.send("cf_agent_chat_clear")
    await room.settle()
    assert author.kinds() == ["done skipped", "done aborted"]
    assert other.kinds() == ["chat_clear", "done aborted"]
    for space in ("chat-messages", "chat-turns", "chat-chunks"):
        assert room.place.stored(space=space) == {}, space


async def test_the_oldest_messages_are_trimmed(
    room: Room, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chat, "max_persisted_messages", 3)
    author = await room.client()
    author.ask("r1", *(user(f"u{n}") for n in range(5)))
    speech.say("x")
    speech.end()
    await room.settle()
    assert [m["id"] for m in await room.stored()][:2] == ["u3", "u4"]
    assert len(await room.stored()) == 3


async def test_an_agent_answers_by_itself_and_goes_on(
    room: Room, speech: Speech
) -> None:
    other = await room.client()
    speech.say("A")
    speech.end()
    saved: list[Any] = []

    async def save(agent: Chat) -> None:
        saved.append(
            await agent.save_messages(lambda messages: [*messages, user("s1")])
        )

    await room.act(save)
    await room.settle()
    assert saved[0].status == "completed"
    speech.say("B")
    speech.end()

    async def go_on(agent: Chat) -> None:
        saved.append(await agent.continue_last_turn({"more": 1}))
        saved.append([m["id"] for m in agent.messages])

    await room.act(go_on)
    await room.settle()
    [_, answer] = await room.stored()
    said = [p["text"] for p in answer["parts"] if p["type"] == "text"]
    assert said == ["A", "B"]
    assert saved[2] == ["s1", answer["id"]]
    assert (Chat.asked[1].continuation, Chat.asked[1].body) == (True, {"more": 1})
    end = other.frames[-1]
    assert end["continuation"] is True
    assert "messageIds" not in end
    assert "messageId" not in other.chunks(end["id"])[0]


async def test_a_handler_can_not_wait_for_a_turn_of_its_own(room: Room) -> None:
    async def deadlock(agent: Chat, options: Any) -> Any:
        await agent.save_messages([user("x")])

    room.cls.handler = deadlock
    author = await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    assert "inside of on_chat_message" in author.frames[-1]["body"]


async def test_all_turns_are_aborted_at_once(room: Room, speech: Speech) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    author.ask("r2", user("u1"), user("u2"))
    await room.settle()

    def abort(agent: Chat) -> bool:
        agent.abort_all_requests("enough")
        return agent.abort_request("r9")

    assert await room.act(abort) is False
    await room.settle()
    assert author.kinds() == ["done aborted", "done aborted"]
    assert Chat.asked[0].abort_signal.reason == "enough"


async def test_a_debounced_message_waits_for_the_last_one(
    room: Room, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    monkeypatch.setattr(Chat, "chat_concurrency", _strategy(("debounce", 0.05)))
    author.ask("r2", user("u1"), user("u2"))
    author.ask("r3", user("u1"), user("u2"), user("u3"))
    speech.end()
    began = asyncio.Event()

    def handler(agent: Chat, options: Any) -> Any:
        began.set()
        return speech.stream()

    monkeypatch.setattr(Chat, "handler", handler)
    async with asyncio.timeout(5):
        await began.wait()
    assert [o.request_id for o in Chat.asked] == ["r1", "r3"]
    speech.end()
    await room.settle()


def _strategy(given: Any) -> Any:
    return concurrency_of(given)


async def test_an_answer_stands_behind_its_question_whatever_came_meanwhile(
    room: Room, speech: Speech
) -> None:
    author, other = await room.client(), await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    other.ask("r2", user("u1"), user("u2"))
    other.ask("r3", user("u1"), user("u2"), user("u3"))
    for said in ("one", "two", "three"):
        speech.say(said)
        speech.end()
        await room.settle()
    texts = [m["parts"][-1]["text"] for m in await room.stored()]
    assert texts == ["hi", "one", "hi", "two", "hi", "three"]
    assert [m["id"] for m in (await room.stored())[::2]] == ["u1", "u2", "u3"]

    def shown(agent: Chat) -> list[str]:
        return [m["id"] for m in agent.messages]

    assert await room.act(shown) == [m["id"] for m in await room.stored()]
    await room.lose_owner()
    assert await room.act(shown) == [m["id"] for m in await room.stored()]


async def test_nothing_is_left_of_an_agent_that_is_destroyed_in_mid_turn(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    speech.say("half")
    await room.settle()
    object_id = room.place.things.id_from_name("a").value
    speech.say("gathered")

    async def destroy(agent: Chat) -> None:
        await agent.destroy()

    await room.act(destroy)
    await room.settle()
    assert room.place.rows.kv.get(object_id, {}) == {}
    assert author.port.closed == (1001, "Durable Object destroyed")


async def test_what_was_said_is_not_kept_in_the_objects_cache(
    room: Room, speech: Speech
) -> None:
    """A chat that is always awake must not grow with each word."""
    author = await room.client()
    author.ask("r1", user("u1", "hi"))
    speech.say("word " * 100, "more " * 100)
    speech.end()
    await room.settle()
    cached = room.live().rows.reads.cache._rows
    assert not [key for key in cached if key[0] in ("chat-chunks", "chat-messages")]
    assert len(await room.stored()) == 2
