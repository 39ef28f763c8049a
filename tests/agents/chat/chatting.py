"""A chat agent on scripted floors, and clients that speak its frames by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from agents import get_current_agent
from agents.chat import AIChatAgent, ChatOptions, ChatResponse
from durable import ResetError
from tests.objects.scripted import Place, Port, turns


def user(id: str, text: str = "hi") -> dict[str, Any]:
    return {"id": id, "role": "user", "parts": [{"type": "text", "text": text}]}


class Chat(AIChatAgent):
    """``handler`` answers; what it is asked and told is written down."""

    handler: Callable[..., Any]
    asked: list[ChatOptions] = []
    ended: list[ChatResponse] = []
    errors: list[str] = []
    works: dict[str, Callable[[Any], Any]] = {}

    def on_chat_message(self, options: ChatOptions) -> Any:
        assert get_current_agent().agent is self
        self.asked.append(options)
        return type(self).handler(self, options)

    def on_chat_response(self, response: ChatResponse) -> None:
        assert get_current_agent() == (self, None, None)
        self.ended.append(response)

    def on_error(self, error: Exception, connection: Any = None) -> None:
        self.errors.append(f"{type(error).__name__}: {error}")

    async def do(self, what: str) -> Any:
        result = self.works[what](self)
        return await result if asyncio.iscoroutine(result) else result


class Speech:
    """What a handler says, when the test says so."""

    def __init__(self) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False

    def say(self, *items: Any) -> None:
        for item in items:
            self._items.put_nowait(item)

    def end(self) -> None:
        self._items.put_nowait(None)

    async def stream(self) -> Any:
        try:
            while (item := await self._items.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed = True


class Client:
    """One socket."""

    def __init__(self, room: Room, port: Port) -> None:
        self.room = room
        self.port = port
        self.read = 0

    def send(self, type: str, **more: Any) -> None:
        self.room.place.message(self.port, json.dumps({"type": type, **more}))

    def ask(
        self, id: str, *messages: dict[str, Any], trigger: str = "", **body: Any
    ) -> None:
        given = {"messages": messages, "trigger": trigger or "submit-message", **body}
        init = {"method": "POST", "body": json.dumps(given)}
        self.send("cf_agent_use_chat_request", id=id, init=init)

    @property
    def frames(self) -> list[dict[str, Any]]:
        """All frames so far."""
        return [json.loads(text) for text in self.port.said]

    def news(self) -> list[dict[str, Any]]:
        """The frames since the last look."""
        frames = self.frames[self.read :]
        self.read += len(frames)
        return frames

    def kinds(self) -> list[str]:
        """The new frames, short."""
        return [short(frame) for frame in self.news()]

    def chunks(self, id: str, *, replay: bool = False) -> list[dict[str, Any]]:
        """The chunks of a stream so far."""
        return [
            json.loads(f["body"])
            for f in self.frames
            if f.get("id") == id and "seq" in f and f.get("replay", False) is replay
        ]

    def text(self, id: str) -> str:
        """What was heard of a stream, live or again, each chunk once."""
        heard = {
            f["seq"]: json.loads(f["body"])
            for f in self.frames
            if f.get("id") == id and "seq" in f
        }
        assert sorted(heard) == list(range(len(heard)))
        return "".join(chunk.get("delta", "") for _, chunk in sorted(heard.items()))


def short(frame: dict[str, Any]) -> str:
    kind = frame["type"].removeprefix("cf_agent_")
    if kind == "use_chat_response":
        if "seq" in frame:
            kind = json.loads(frame["body"])["type"]
            return f"{kind} again" if frame.get("replay") else kind
        marks = ("done", "replayComplete", "error", "outcome", "replay")
        told = [str(frame[m] if m == "outcome" else m) for m in marks if frame.get(m)]
        return " ".join(told)
    if kind == "chat_messages":
        return "messages " + ",".join(m["id"][:9] for m in frame["messages"])
    if kind == "stream_resume_none":
        return f"none {frame['reason']}"
    return str(kind)


class Room:
    """One chat agent and its clients."""

    def __init__(self, cls: type[Chat] = Chat) -> None:
        self.place = Place(cls)
        self.cls = cls

    async def client(self) -> Client:
        """Connect; what is said on connect is read."""
        port = await self.place.connect()
        client = Client(self, port)
        client.news()
        return client

    async def settle(self) -> None:
        """Go on until nothing goes on; nothing is waited for (see conftest)."""
        before = -1
        while before != (before := len(self.place.lane.commits)):
            await turns(80)

    async def act(self, work: Callable[[Any], Any]) -> Any:
        """Let the agent do something, as an event."""
        self.cls.works["act"] = work
        return await self.place.stub().do("act")

    async def stored(self) -> list[dict[str, Any]]:
        """The messages in "Postgres"."""
        rows = self.place.stored(space="chat-messages")
        return [json.loads(stored) for stored in rows.values()]

    async def close(self) -> None:
        """End what still goes on."""
        for activation in self.place.dispatcher.activations():
            activation.reset(ResetError("the test has ended"))
        await turns()

    def live(self) -> Any:
        """The activation."""
        object_id = self.place.things.id_from_name("a").value
        return self.place.dispatcher._live[object_id]

    async def lose_owner(self, *clients: Client) -> None:
        """The owner is lost; the next one is told of the sockets that go on."""
        for activation in self.place.dispatcher.activations():
            activation.reset(ResetError("crash"))
        await turns()
        for client in clients:
            assert client.port.object_id is not None
            self.place.dispatcher.socket_restored(
                client.port.object_id, client.port.record
            )
        await self.settle()
