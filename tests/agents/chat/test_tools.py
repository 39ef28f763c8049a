"""Tool calls that clients and people answer, and the turns that follow."""

from __future__ import annotations

from typing import Any

import pytest

from agents.chat import tools
from agents.chat import ui_stream as ui
from tests.agents.chat.chatting import Chat, Client, Room, Speech, user


def part(message: dict[str, Any], call_id: str = "c") -> dict[str, Any]:
    return next(p for p in message["parts"] if p.get("toolCallId") == call_id)


async def called(room: Room, speech: Speech, *chunks: Any) -> Client:
    """A client whose turn has ended with tool calls that are open."""
    author = await room.client()
    author.ask("r1", user("u1"), clientTools=[{"name": "t"}], extra=1)
    speech.say(*(chunks or [ui.tool_call("c", "t", {"a": 1})]))
    speech.end()
    await room.settle()
    author.news()
    return author


async def test_a_result_is_stored_told_to_all_and_the_answer_goes_on(
    room: Room, speech: Speech
) -> None:
    author = await called(room, speech)
    other = await room.client()
    author.send(
        "cf_agent_tool_result",
        toolCallId="c",
        toolName="t",
        output={"ok": 1},
        autoContinue=True,
    )
    author.send("cf_agent_stream_resume_request", probeId="p")
    await room.settle()
    assert other.kinds() == ["message_updated"]
    [updated, pending] = author.news()
    settled = part(updated["message"])
    assert (settled["state"], settled["output"]) == ("output-available", {"ok": 1})
    assert pending["type"] == "cf_agent_stream_pending"
    speech.say("It is so.")
    await room.settle()
    id = pending["id"]
    assert author.news() == [{"type": "cf_agent_stream_resuming", "id": id}]
    assert other.kinds()[-1] == "text-delta"
    author.send("cf_agent_stream_resume_ack", id=id)
    speech.end()
    await room.settle()
    assert all(f["continuation"] for f in author.news() if "body" in f)
    [_, answer] = await room.stored()
    assert [p["type"] for p in answer["parts"]] == [
        "step-start",
        "tool-t",
        "step-start",
        "text",
    ]
    assert Chat.asked[1].continuation
    assert Chat.asked[1].client_tools == [{"name": "t"}]
    assert Chat.asked[1].body == {"extra": 1}


async def test_the_first_result_wins(room: Room, speech: Speech) -> None:
    author = await called(room, speech)
    author.send("cf_agent_tool_result", toolCallId="c", output="first")
    author.send("cf_agent_tool_result", toolCallId="c", output="second")
    author.send("cf_agent_tool_result", toolCallId="unknown", output="x")
    author.send(
        "cf_agent_tool_result", toolCallId="c", state="output-error", errorText="no"
    )
    await room.settle()
    assert author.kinds() == ["message_updated"]
    assert part((await room.stored())[1])["output"] == "first"
    assert len(Chat.asked) == 1


async def test_an_error_of_a_tool_has_its_text_or_the_usual_one(
    room: Room, speech: Speech
) -> None:
    calls = [ui.tool_call("c", "t", 1), ui.tool_call("d", "t", 1)]
    author = await called(room, speech, *calls)
    for id, text in (("c", "broke"), ("d", None)):
        author.send(
            "cf_agent_tool_result",
            toolCallId=id,
            state="output-error",
            errorText=text,
        )
    await room.settle()
    [_, answer] = await room.stored()
    assert part(answer, "c")["errorText"] == "broke"
    assert part(answer, "d")["errorText"] == "Tool execution denied by user"


async def test_calls_made_together_have_one_continuation(
    room: Room, speech: Speech
) -> None:
    calls = [ui.tool_call("c", "t", 1), ui.tool_call("d", "t", 2)]
    author = await called(room, speech, *calls)
    author.send("cf_agent_tool_result", toolCallId="c", output=1, autoContinue=True)
    await room.settle()
    assert len(Chat.asked) == 1
    author.send("cf_agent_tool_result", toolCallId="d", output=2)
    await room.settle()
    assert len(Chat.asked) == 2
    speech.end()
    await room.settle()
    assert len(Chat.asked) == 2


async def test_a_result_that_comes_while_the_answer_streams(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    speech.say(ui.tool_call("c", "t", {"a": 1}))
    await room.settle()
    author.send("cf_agent_tool_result", toolCallId="c", output="ok", autoContinue=True)
    await room.settle()
    # Stored at once: it must survive the owner.
    assert part((await room.stored())[1])["output"] == "ok"
    speech.say("more")
    speech.end()
    await room.settle()
    assert len(Chat.asked) == 2
    speech.end()
    await room.settle()
    [_, answer] = await room.stored()
    assert part(answer)["output"] == "ok"
    assert answer["parts"][-1]["text"] == "more"


async def test_an_approval_survives_restarts_and_may_come_by_another_way(
    room: Room, speech: Speech
) -> None:
    call = [ui.tool_call("c", "pay", {"usd": 9}), ui.tool_approval("c", "a")]
    author = await called(room, speech, *call)
    await room.lose_owner(author)

    async def approve(agent: Chat) -> list[bool]:
        return [await agent.approve_tool_call("c", True) for _ in range(2)]

    async def pay(agent: Chat, options: Any) -> Any:
        last = agent.messages[-1]
        assert part(last)["state"] == "approval-responded"
        return [ui.tool_output("c", "paid"), "Done."]

    room.cls.handler = pay
    assert await room.act(approve) == [True, False]
    await room.settle()
    [_, answer] = await room.stored()
    assert part(answer)["state"] == "output-available"
    assert part(answer)["approval"] == {"id": "a", "approved": True}
    assert answer["parts"][-1]["text"] == "Done."


async def test_a_denied_call_goes_on_too(room: Room, speech: Speech) -> None:
    call = [ui.tool_call("c", "pay", {"usd": 9}), ui.tool_approval("c", "a")]
    author = await called(room, speech, *call)
    author.send(
        "cf_agent_tool_approval", toolCallId="c", approved=False, autoContinue=True
    )
    await room.settle()
    assert part((await room.stored())[1])["state"] == "output-denied"
    assert len(Chat.asked) == 2


async def test_a_continuation_that_is_owed_is_made_by_the_next_owner(
    room: Room, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = await called(room, speech)
    # Its time doesn't come in this life.
    monkeypatch.setattr(tools, "GATHER_SECONDS", 3600)
    author.send("cf_agent_tool_result", toolCallId="c", output=1, autoContinue=True)
    await room.settle()
    assert len(Chat.asked) == 1
    monkeypatch.setattr(tools, "GATHER_SECONDS", 0)
    await room.lose_owner(author)
    assert len(Chat.asked) == 2
    speech.say("so it is")
    speech.end()
    await room.settle()
    assert (await room.stored())[1]["parts"][-1]["text"] == "so it is"


async def test_who_asks_while_a_call_is_open_need_not_wait(
    room: Room, speech: Speech
) -> None:
    calls = [ui.tool_call("c", "t", 1), ui.tool_call("d", "t", 2)]
    author = await called(room, speech, *calls)
    author.send("cf_agent_tool_result", toolCallId="c", output=1, autoContinue=True)
    await room.settle()
    author.news()
    author.send("cf_agent_stream_resume_request", probeId="p")
    assert author.kinds() == ["none idle"]
    # Nor is the agent woken for it again and again.
    object_id = room.place.things.id_from_name("a").value
    alarm = room.place.rows.alarms[object_id]
    await room.place.dispatcher.alarm(object_id, alarm)
    await room.settle()
    assert object_id not in room.place.rows.alarms
    author.send("cf_agent_tool_result", toolCallId="d", output=2)
    await room.settle()
    assert len(Chat.asked) == 2
