"""A WebSocket and HTTP client spoken by hand: frames as they come, nothing hidden."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import aiohttp
from yarl import URL

LIMIT_SECONDS = 10
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def unique(prefix: str = "room") -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


class Socket:
    """One socket of an agent; `frames` is what has been received, oldest first."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.websocket = websocket
        self.frames: list[Any] = []
        self._ids = itertools.count(1)

    async def __aenter__(self) -> Socket:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.websocket.close()

    async def send(self, message: str | bytes | dict[str, Any]) -> None:
        """Send text or bytes as they are, a mapping as JSON."""
        if isinstance(message, bytes):
            await self.websocket.send_bytes(message)
        else:
            text = message if isinstance(message, str) else json.dumps(message)
            await self.websocket.send_str(text)

    async def receive_text(self) -> str:
        """Return the next frame, which must be text, as it came."""
        message = await self.websocket.receive(LIMIT_SECONDS)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        return str(message.data)

    async def receive(self) -> Any:
        """Return the next frame: parsed if it is JSON."""
        message = await self.websocket.receive(LIMIT_SECONDS)
        known = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)
        assert message.type in known, (message, self.frames)
        try:
            frame = json.loads(message.data) if isinstance(message.data, str) else None
        except ValueError:
            frame = None
        self.frames.append(message.data if frame is None else frame)
        return self.frames[-1]

    async def reply(self, method: str, *args: Any) -> dict[str, Any]:
        """Call a method; return the frame of the reply. Others stay in `frames`."""
        call_id = f"raw-{next(self._ids)}"
        await self.send(
            {"type": "rpc", "id": call_id, "method": method, "args": list(args)}
        )
        while True:
            frame = await self.receive()
            if isinstance(frame, dict) and frame.get("id") == call_id:
                return frame

    async def call(self, method: str, *args: Any) -> Any:
        """Call a method that must succeed; return its result."""
        frame = await self.reply(method, *args)
        assert frame["success"], frame
        return frame.get("result")

    async def until(
        self, match: Callable[[Any], Any], method: str = "read_journal", *args: Any
    ) -> Any:
        """Call a method again and again until its result matches; return that."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while not match(result := await self.call(method, *args)):
                continue
        return result

    async def closed(self) -> tuple[int | None, str | None]:
        """Wait for the server's close; return code and reason."""
        while True:
            message = await self.websocket.receive(LIMIT_SECONDS)
            if message.type is aiohttp.WSMsgType.CLOSE:
                return message.data, message.extra
            if message.type is aiohttp.WSMsgType.TEXT:
                self.frames.append(json.loads(message.data))
                continue
            return self.websocket.close_code, None

    def types(self) -> list[Any]:
        """Return the types of the frames so far."""
        return [
            frame.get("type") if isinstance(frame, dict) else frame
            for frame in self.frames
        ]

    def states(self) -> list[Any]:
        """Return the states received so far."""
        return [
            frame["state"]
            for frame in self.frames
            if isinstance(frame, dict) and frame.get("type") == "cf_agent_state"
        ]


class Wire:
    """Opens sockets and makes requests; a path is sent exactly as it is written."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    @asynccontextmanager
    async def request(
        self, path: str, method: str = "GET", **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a request; redirects aren't followed."""
        url = URL(self.url + path, encoded=True)
        options = {"timeout": aiohttp.ClientTimeout(LIMIT_SECONDS), **options}
        async with self.session.request(
            method, url, allow_redirects=False, **options
        ) as response:
            yield response

    async def answer(
        self, path: str, method: str = "GET", **options: Any
    ) -> tuple[int, str]:
        """Return status and text of the answer."""
        async with self.request(path, method, **options) as response:
            return response.status, await response.text()

    async def json(self, path: str, method: str = "GET", **options: Any) -> Any:
        """Return the JSON of an answer that must be 200."""
        status, text = await self.answer(path, method, **options)
        assert status == 200, (status, text)
        return json.loads(text)

    async def connect(self, path: str, **options: Any) -> Socket:
        """Open a socket at a path."""
        url = URL(self.url.replace("http", "ws", 1) + path, encoded=True)
        websocket = await asyncio.wait_for(
            self.session.ws_connect(url, max_msg_size=0, **options), LIMIT_SECONDS
        )
        return Socket(websocket)

    async def open(self, path: str, **options: Any) -> Socket:
        """Open a socket and read what is sent on connect, up to the MCP frame."""
        socket = await self.connect(path, **options)
        while "cf_agent_mcp_servers" not in socket.types():
            await socket.receive()
        return socket
