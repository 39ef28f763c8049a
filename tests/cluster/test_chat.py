"""Chat turns whose owner is killed or drained: what clients hear, what is stored."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.fleet import Fleet
from tests.server.nodes import LIMIT, Caller, Client

# From the takeover on, when requests are answered again.
HEARD_SECONDS = 2


class Tab:
    """A socket and what it has heard."""

    def __init__(self, caller: Caller) -> None:
        self.socket = caller.websocket
        self.frames: list[dict[str, Any]] = []

    async def ask(self, id: str, text: str) -> None:
        parts = [{"type": "text", "text": text}]
        message = {"id": f"m{id}", "role": "user", "parts": parts}
        body = json.dumps({"messages": [message], "trigger": "submit-message"})
        init = {"method": "POST", "body": body}
        await self.socket.send_json(
            {"type": "cf_agent_use_chat_request", "id": id, "init": init}
        )

    async def until(
        self, match: Callable[[dict[str, Any]], Any], limit: float = LIMIT
    ) -> dict[str, Any]:
        async with asyncio.timeout(limit):
            while True:
                frame = json.loads((await self.socket.receive()).data)
                self.frames.append(frame)
                if match(frame):
                    return dict(frame)

    def text(self, id: str) -> str:
        """What was heard of a stream: each chunk once, in order."""
        heard = [f for f in self.frames if f.get("id") == id and "seq" in f]
        assert [f["seq"] for f in heard] == list(range(len(heard)))
        return "".join(json.loads(f["body"]).get("delta", "") for f in heard)


def ended(frame: dict[str, Any]) -> bool:
    return frame["type"] == "cf_agent_use_chat_response" and frame["done"] is True


def numbers(count: int) -> str:
    return "".join(f"{number} " for number in range(count))


async def history(client: Client, room: str) -> list[tuple[str, str]]:
    """Role and text of the messages."""
    status, text = await client.get(f"/agents/room/{room}/get-messages")
    assert status == 200, text
    return [
        (m["role"], "".join(p.get("text", "") for p in m["parts"]))
        for m in json.loads(text)
    ]


async def streaming(
    fleet: Fleet, count: int, **settings: str
) -> tuple[Any, Client, str, list[Tab]]:
    """Two workers, a front end, two tabs, and a stream that is under way."""
    fleet.app = "tests/cluster/chat_app.py"
    owner, _ = [await fleet.start("worker", **settings) for _ in range(2)]
    client = await fleet.client(await fleet.start("front"))
    room = await fleet.room_of(client, owner)
    tabs = [Tab(await fleet.join(client, room)) for _ in range(2)]
    await tabs[0].ask("r1", str(count))
    for tab in tabs:
        await tab.until(lambda frame: '"9 "' in frame.get("body", ""))
    return owner, client, room, tabs


async def test_kill_9_in_mid_turn_is_heard_and_nothing_that_was_heard_is_lost(
    fleet: Fleet,
) -> None:
    owner, client, room, tabs = await streaming(fleet, 10_000)
    owner.process.kill()

    async def taken_over() -> float:
        await history(client, room)
        return time.monotonic()

    takeover = asyncio.create_task(taken_over())
    for tab in tabs:
        end = await tab.until(ended)
        assert end["outcome"] == "aborted"
    heard = time.monotonic()
    assert heard - await takeover < HEARD_SECONDS
    [asked, answer] = await history(client, room)
    assert asked == ("user", "10000")
    for tab in tabs:
        assert answer[1].startswith(tab.text("r1"))
    assert numbers(10_000).startswith(answer[1])
    # The room goes on.
    await tabs[1].ask("r2", "3")
    assert "outcome" not in await tabs[0].until(ended)
    assert (await history(client, room))[-1] == ("assistant", numbers(3))


async def test_with_recovery_the_next_owner_runs_the_turn_as_a_whole(
    fleet: Fleet,
) -> None:
    owner, client, room, tabs = await streaming(fleet, 200, TEST_CHAT_RECOVERY="1")
    owner.process.kill()
    for tab in tabs:
        end = await tab.until(ended)
        assert end["outcome"] == "recovering"
        again = await tab.until(
            lambda frame: frame["type"] == "cf_agent_chat_recovering"
        )
        end = await tab.until(ended)
        assert (end["id"], end.get("outcome")) == (again["id"], None)
        assert tab.text(end["id"]) == numbers(200)
    assert await history(client, room) == [
        ("user", "200"),
        ("assistant", numbers(200)),
    ]


@pytest.mark.parametrize("count", [50, 10_000])
async def test_a_drain_lets_a_turn_end_or_cuts_it_off(fleet: Fleet, count: int) -> None:
    owner, client, room, tabs = await streaming(fleet, count, DURABLE_DRAIN_SECONDS="2")
    owner.terminate()
    assert await owner.ended() == 0
    for tab in tabs:
        end = await tab.until(ended)
        assert end.get("outcome") == (None if count == 50 else "aborted")
    [_, answer] = await history(client, room)
    assert numbers(count).startswith(answer[1])
    for tab in tabs:
        assert answer[1].startswith(tab.text("r1"))
    assert count != 50 or answer[1] == numbers(50)
