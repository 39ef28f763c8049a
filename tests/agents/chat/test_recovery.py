"""Turns whose owner is lost: what is stored then, and what clients hear."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from agents.chat import chat_agent
from agents.chat import ui_stream as ui
from tests.agents.chat.chatting import Chat, Room, Speech, user


async def half_said(room: Room, speech: Speech) -> Any:
    author = await room.client()
    author.ask("r1", user("u1"))
    author.ask("r2", user("u1"), user("u2"))
    speech.say("one ", "two")
    await room.settle()
    author.news()
    return author


async def test_what_was_said_is_kept_and_the_turn_has_been_aborted(
    room: Room, speech: Speech
) -> None:
    author = await half_said(room, speech)
    await room.lose_owner(author)
    kinds = author.kinds()
    assert kinds[:2] == ["done aborted", "done aborted"]
    assert "messages u1,assistant,u2" in kinds
    assert author.text("r1") == "one two"
    [_, answer, _] = await room.stored()
    assert answer["id"] == author.chunks("r1")[0]["messageId"]
    assert answer["parts"][1] == {
        "type": "text",
        "text": "one two",
        "state": "streaming",
    }
    assert len(Chat.asked) == 1
    # Who comes now hears what there was of it, and its end.
    late = await room.client()
    late.send("cf_agent_stream_resume_request", probeId="p")
    [offer] = late.news()
    late.send("cf_agent_stream_resume_ack", id=offer["id"])
    await room.settle()
    assert late.kinds()[-1] == "done aborted replay"


async def test_nothing_of_a_turn_that_never_streamed_is_lost_but_the_answer(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    await room.lose_owner(author)
    assert author.kinds()[0] == "done aborted"
    assert [m["id"] for m in await room.stored()] == ["u1"]
    author.ask("r2", user("u1"), user("u2"))
    speech.end()
    await room.settle()
    assert author.kinds()[-1] == "done"


async def test_with_recovery_the_turn_is_run_again_as_a_whole(
    room: Room, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chat, "chat_recovery_budget", 2)
    author = await half_said(room, speech)
    await room.lose_owner(author)
    kinds = author.kinds()
    assert kinds[:2] == ["done recovering", "chat_recovering"]
    assert kinds.count("chat_recovering") == 2
    assert [o.recoveries for o in Chat.asked] == [0, 1]
    again = Chat.asked[1].request_id
    speech.say("three")
    speech.end()
    await room.settle()
    assert author.text(again) == "three"
    recovered = [f for f in author.frames if f["type"] == "cf_agent_chat_recovering"]
    assert [(f["recovering"], f["id"] == again) for f in recovered] == [
        (True, True),
        (True, False),
        (False, True),
    ]
    speech.end()
    await room.settle()
    texts = [m["parts"][-1]["text"] for m in await room.stored()]
    assert texts == ["hi", "three", "hi"]


async def test_a_turn_that_takes_every_owner_down_is_given_up(
    room: Room, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chat, "chat_recovery_budget", 2)
    author = await room.client()
    author.ask("r1", user("u1"))
    for number in range(3):
        speech.say(f"try {number}")
        await room.settle()
        await room.lose_owner(author)
    assert len(Chat.asked) == 3
    [end] = [f for f in author.news() if f.get("error")][:1]
    assert end["body"] == "The answer was interrupted 3 times."
    assert [m["parts"][-1]["text"] for m in await room.stored()] == ["hi", "try 2"]


def test_what_recovery_stands_for() -> None:
    class Again(Chat):
        chat_recovery = True

    class Once(Chat):
        chat_recovery = 1

    assert Again.chat_recovery_budget == chat_agent.RECOVERIES
    assert (Once.chat_recovery_budget, Chat.chat_recovery_budget) == (1, 0)


async def test_a_result_that_was_given_to_an_answer_that_streamed_is_kept(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    speech.say(ui.tool_call("c", "t", {}))
    await room.settle()
    author.send("cf_agent_tool_result", toolCallId="c", output="ok")
    speech.say("more")
    await room.settle()
    await room.lose_owner(author)
    [_, answer] = await room.stored()
    assert answer["parts"][1]["output"] == "ok"
    assert answer["parts"][-1]["text"] == "more"


async def test_an_owner_lost_at_any_commit_leaves_a_beginning_of_the_answer(
    room: Room, speech: Speech
) -> None:
    """Cut at each commit in turn: the answer is a prefix of what was to be said."""
    words = [f"{number} " for number in range(6)]
    for cut in itertools.count():
        place = Room()
        author = await place.client()
        author.ask("r1", user("u1"))
        commits = 0
        for word in words:
            if commits == cut:
                place.place.lane.hold()
            speech.say(word)
            await place.settle()
            commits += 1
        finished = cut >= commits
        if finished:
            speech.end()
            await place.settle()
        else:
            await place.lose_owner(author)
            place.place.lane.release()
            await place.settle()
        heard = author.text("r1")
        await place.client()
        await place.settle()
        stored = await place.stored()
        text = stored[1]["parts"][-1]["text"] if len(stored) > 1 else ""
        assert "".join(words).startswith(text)
        assert text.startswith(heard)
        await place.close()
        Speech.__init__(speech)
        if finished:
            assert text == "".join(words)
            return


async def test_a_client_whose_owner_was_lost_hears_the_last_end_again(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    speech.say("all")
    speech.end()
    await room.settle()
    author.news()
    await room.lose_owner(author)
    assert author.kinds() == ["messages u1,assistant", "done"]
    assert len(await room.stored()) == 2


async def test_the_agent_is_looked_after_while_a_turn_runs(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    object_id = room.place.things.id_from_name("a").value
    assert object_id not in room.place.rows.alarms
    author.ask("r1", user("u1"))
    await room.settle()
    alarm = room.place.rows.alarms[object_id]
    await room.place.dispatcher.alarm(object_id, alarm)
    await room.settle()
    # It runs on: the next look is planned.
    assert room.place.rows.alarms[object_id].due >= alarm.due
    speech.end()
    await room.settle()
    alarm = room.place.rows.alarms[object_id]
    await room.place.dispatcher.alarm(object_id, alarm)
    await room.settle()
    assert object_id not in room.place.rows.alarms


@pytest.mark.parametrize("landed", [True, False])
async def test_an_owner_lost_at_any_commit_is_followed_by_one_whole_run(
    room: Room, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    """Cut at each commit in turn, whether that lands or not: never a mix."""
    monkeypatch.setattr(Chat, "chat_recovery_budget", 1)
    words = [f"{number} " for number in range(5)]
    for cut in range(len(words)):
        speech, place = Speech(), Room()
        monkeypatch.setattr(Chat, "handler", lambda *_, s=speech: s.stream())
        author = await place.client()
        author.ask("r1", user("u1"))
        await place.settle()
        for number, word in enumerate(words):
            if number == cut:
                place.place.lane.hold()
            speech.say(word)
            await place.settle()
        place.place.lane.lose(landed=landed)
        await place.lose_owner(author)
        # Whoever still follows hears of the other run.
        late = await place.client()
        await place.settle()
        speech.say(*words)
        speech.end()
        await place.settle()
        [asked, answer] = await place.stored()
        assert (asked["id"], answer["parts"][-1]["text"]) == ("u1", "".join(words))
        assert answer["parts"][-1]["state"] == "done"
        streams = {key[:12] for key in place.place.stored(space="chat-chunks")}
        assert len(streams) == 1
        assert late.port.closed is None
        await place.close()
