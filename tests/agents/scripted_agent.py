"""A server on a real socket whose every frame the test writes, and a clock it owns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

from agents.client import AgentClient


class ControlledTimer:
    def __init__(self, delay: float, due: float, callback: Callable[[], object]):
        self.delay = delay
        self.due = due
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class ControlledTimers:
    """The client's clock, standing still until the test moves it."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[ControlledTimer] = []
        self._changed = asyncio.Event()

    def call_later(
        self, delay: float, callback: Callable[[], object], /
    ) -> ControlledTimer:
        timer = ControlledTimer(delay, self._now + delay, callback)
        self._timers.append(timer)
        self._changed.set()
        return timer

    def advance(self, seconds: float) -> None:
        end = self._now + seconds
        while due := [t for t in self.waiting() if t.due <= end + 1e-9]:
            first = min(due, key=lambda timer: timer.due)
            self._now = max(self._now, first.due)
            self._timers.remove(first)
            first.callback()
        self._now = end

    def waiting(self) -> list[ControlledTimer]:
        self._timers = [timer for timer in self._timers if not timer.is_cancelled]
        return self._timers

    async def planned(self, delay: float) -> None:
        """Wait until something is planned with just this delay."""
        while not any(abs(timer.delay - delay) < 1e-9 for timer in self.waiting()):
            self._changed.clear()
            await self._changed.wait()


class Peer:
    """The server's end of one socket."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.request = request
        self.socket = socket
        self.close_code: int | None = None
        self.closed = asyncio.Event()
        self._frames: asyncio.Queue[str | bytes] = asyncio.Queue()

    async def read(self) -> None:
        async for message in self.socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self._frames.put_nowait(message.data)
        self.close_code = self.socket.close_code
        self.closed.set()

    async def send(self, frame: Any) -> None:
        await self.socket.send_str(json.dumps(frame))

    async def receive_raw(self) -> str | bytes:
        return await self._frames.get()

    async def receive(self) -> Any:
        return json.loads(await self._frames.get())

    def has_received_nothing(self) -> bool:
        return self._frames.empty()

    async def identify(self, name: str = "room", agent: str = "counter") -> None:
        await self.send({"type": "cf_agent_identity", "name": name, "agent": agent})

    async def answer(self, result: Any) -> Any:
        """Take the next call and give it this result."""
        call = await self.receive()
        await self.send(
            {
                "type": "rpc",
                "id": call["id"],
                "success": True,
                "done": True,
                "result": result,
            }
        )
        return call

    async def close(self, code: int, reason: str = "") -> None:
        await self.socket.close(code=code, message=reason.encode())

    def cut(self) -> None:
        """End the TCP connection without a closing handshake."""
        transport = self.request.transport
        assert transport is not None
        transport.abort()


class ScriptedAgent:
    """Accepts sockets and requests; the test takes them one at a time."""

    def __init__(self) -> None:
        self.port = 0
        self.refusals = 0
        self.attempts: list[str] = []
        self.requests: list[tuple[str, str, bytes]] = []
        self.holds_handshakes = False
        self.held: asyncio.Queue[web.Request] = asyncio.Queue()
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._refused: asyncio.Queue[str] = asyncio.Queue()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def accept(self) -> Peer:
        return await self._peers.get()

    async def refused(self) -> str:
        return await self._refused.get()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            body = await request.read()
            self.requests.append((request.method, request.raw_path, body))
            return web.json_response({"path": request.raw_path}, status=202)
        self.attempts.append(request.raw_path)
        if self.refusals:
            self.refusals -= 1
            self._refused.put_nowait(request.raw_path)
            return web.Response(status=503)
        if self.holds_handshakes:
            self.held.put_nowait(request)
            await asyncio.Event().wait()
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        peer = Peer(request, socket)
        self._peers.put_nowait(peer)
        await peer.read()
        return socket


@asynccontextmanager
async def scripted_agent() -> AsyncIterator[ScriptedAgent]:
    agent = ScriptedAgent()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", agent.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        agent.port = runner.addresses[0][1]
        yield agent
    finally:
        await runner.cleanup()


async def turns() -> None:
    """Let what is ready to run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def make_client(server: ScriptedAgent, **options: Any) -> AgentClient:
    settings: dict[str, Any] = {"agent": "Counter", "name": "room", **options}
    return AgentClient(host=server.host, **settings)


class Closes:
    """Records closes and lets a test wait for them."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[tuple[int, str, bool]] = asyncio.Queue()

    def __call__(self, code: int, reason: str, was_clean: bool) -> None:
        self._told.put_nowait((code, reason, was_clean))

    async def next(self) -> tuple[int, str, bool]:
        return await self._told.get()

    def empty(self) -> bool:
        return self._told.empty()


async def identified(server: ScriptedAgent, client: AgentClient) -> Peer:
    peer = await server.accept()
    await peer.identify()
    await client.ready
    return peer
