"""The resume handshake: no chunk lost, none heard twice, whenever a client comes."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.chat import chunk_log, tools
from tests.agents.chat.chatting import Chat, Client, Room, Speech, user


async def test_a_client_that_connects_in_mid_stream_gets_all_of_it_once(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    speech.say("one ")
    await room.settle()
    port = await room.place.connect()
    late = Client(room, port)
    # Before the identity.
    assert late.kinds()[:2] == ["stream_resuming", "identity"]
    speech.say("two ")
    await room.settle()
    assert late.kinds() == []
    late.send("cf_agent_stream_resume_ack", id="r1")
    speech.say("three")
    speech.end()
    await room.settle()
    again = ["start", "start-step", "text-start", "text-delta", "text-delta"]
    kinds = late.kinds()
    assert kinds[:6] == [*(f"{kind} again" for kind in again), "replayComplete replay"]
    assert kinds[6] == "text-delta"
    assert kinds[-1] == "done"
    assert late.text("r1") == author.text("r1") == "one two three"


async def test_what_is_gathered_when_a_client_acknowledges_is_heard_once(
    room: Room, speech: Speech
) -> None:
    author, late = await room.client(), await room.client()
    author.ask("r1", user("u1"))
    speech.say("one ")
    await room.settle()
    late.send("cf_agent_stream_resume_request", probeId="p")
    assert late.frames[-1] == {
        "type": "cf_agent_stream_resuming",
        "id": "r1",
        "probeId": "p",
    }
    room.live()._instance._turns.stream.take({"type": "text-start", "id": "gathered"})
    late.send("cf_agent_stream_resume_ack", id="r1")
    speech.end()
    await room.settle()
    kinds = [c["type"] for c in late.chunks("r1", replay=True)]
    assert kinds[-1] == "text-start"
    seqs = [f["seq"] for f in late.frames if "seq" in f and f.get("replay")]
    live = [f["seq"] for f in late.frames if "seq" in f and not f.get("replay")]
    assert seqs == list(range(len(seqs)))
    # What it heard live before it asked, and what came after.
    assert live == [*range(4), *range(len(seqs), live[-1] + 1)]


async def test_every_probe_is_answered(room: Room, speech: Speech) -> None:
    client = await room.client()
    client.send("cf_agent_stream_resume_request", probeId="a")
    client.send("cf_agent_stream_resume_request")
    idle = {"type": "cf_agent_stream_resume_none", "reason": "idle"}
    assert client.news() == [{**idle, "probeId": "a"}, idle]
    client.ask("r1", user("u1"))
    await room.settle()
    client.send("cf_agent_stream_resume_request", probeId="b")
    await room.settle()
    [pending] = client.news()
    assert pending == {
        "type": "cf_agent_stream_pending",
        "id": "r1",
        "probeId": "b",
    }
    speech.say("x")
    await room.settle()
    assert client.news() == [{"type": "cf_agent_stream_resuming", "id": "r1"}]
    client.send("cf_agent_stream_resume_ack", id="r1")
    speech.end()
    await room.settle()
    assert client.kinds()[-1] == "done"
    assert client.text("r1") == "x"


async def test_who_waits_for_a_turn_that_says_nothing_hears_of_it(room: Room) -> None:
    spoken = Speech()

    async def silent(agent: Chat, options: Any) -> Any:
        async for _ in spoken.stream():
            pass

    room.cls.handler = silent
    author, other = await room.client(), await room.client()
    author.ask("r1", user("u1"))
    await room.settle()
    other.send("cf_agent_stream_resume_request", probeId="p")
    await room.settle()
    assert other.kinds() == ["messages u1", "stream_pending"]
    spoken.end()
    await room.settle()
    assert other.kinds() == ["done completed", "none idle"]


async def test_a_stream_that_ended_meanwhile_is_replayed_with_its_end(
    room: Room, speech: Speech
) -> None:
    author, late = await room.client(), await room.client()
    author.ask("r1", user("u1"))
    speech.say("one")
    await room.settle()
    late.send("cf_agent_stream_resume_request", probeId="p")
    speech.end()
    await room.settle()
    late.news()
    late.send("cf_agent_stream_resume_ack", id="r1")
    await room.settle()
    kinds = late.kinds()
    assert kinds[-1] == "done replay"
    assert all(kind.endswith(" again") for kind in kinds[:-1])
    assert len(kinds) == 8
    late.send("cf_agent_stream_resume_ack", id="unknown")
    late.send("cf_agent_stream_resume_ack", id=5)
    await room.settle()
    [end] = late.news()
    assert end == {
        "type": "cf_agent_use_chat_response",
        "id": "unknown",
        "body": "",
        "done": True,
        "replay": True,
    }


async def test_a_failed_turn_is_told_to_who_comes_later(
    room: Room, speech: Speech
) -> None:
    author = await room.client()
    author.ask("r1", user("u1"))
    speech.say("half", ValueError("broken"))
    await room.settle()
    late = await room.client()
    late.send("cf_agent_stream_resume_request", probeId="p")
    assert late.kinds() == ["stream_resuming"]
    late.send("cf_agent_stream_resume_ack", id="r1")
    await room.settle()
    assert late.kinds()[-1] == "done error replay"
    assert late.frames[-1]["body"] == "broken"
    author.ask("r2", user("u1"), user("u2"))
    await room.settle()
    speech.end()
    await room.settle()
    late.news()
    late.send("cf_agent_stream_resume_request", probeId="q")
    assert late.kinds() == ["none idle"]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.sampled_from("scklar"), max_size=25), st.integers(0, 2**16))
async def test_cut_anywhere_resumed_anyhow_every_tab_has_the_uncut_transcript(
    monkeypatch: Any, acts: list[str], seed: int
) -> None:
    monkeypatch.setattr(chunk_log, "GATHER_SECONDS", 0)
    monkeypatch.setattr(tools, "GATHER_SECONDS", 0)
    speech, room = Speech(), Room()
    Chat.handler = lambda agent, options: speech.stream()
    author = await room.client()
    author.ask("r1", user("u1"))
    tabs, said = list[Client](), ""
    for number, act in enumerate(acts):
        if act == "s":
            speech.say(f"{number} ")
            said += f"{number} "
            await room.settle()
        elif act == "c":
            tabs.append(Client(room, await room.place.connect()))
        elif act == "k":
            await room.settle()
        elif tabs:
            tab = tabs[(seed + number) % len(tabs)]
            if act == "a":
                tab.send("cf_agent_stream_resume_ack", id="r1")
            elif act == "r":
                tab.send("cf_agent_stream_resume_request", probeId=str(number))
            else:
                tabs.remove(tab)
                assert tab.port.object_id is not None
                room.place.dispatcher.socket_closed(
                    tab.port.object_id, tab.port.record, 1006, "", False
                )
    speech.end()
    await room.settle()
    for tab in tabs:
        tab.send("cf_agent_stream_resume_ack", id="r1")
    await room.settle()
    assert author.text("r1") == said
    for tab in tabs:
        assert tab.text("r1") == said
    await room.close()
