"""Node processes with the misbehaving agents, and clients of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).parents[2]
APP = "tests/server/bad_app.py"
LIMIT = 20


class Node:
    """One `durable dev` process."""

    def __init__(
        self, process: asyncio.subprocess.Process, url: str, log: Path
    ) -> None:
        self.process = process
        self.url = url
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        async with asyncio.timeout(LIMIT):
            return await self.process.wait()

    def memory(self) -> int:
        """Resident bytes."""
        statm = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def node(
    database_url: str, log: Path, app: str = APP, **settings: str
) -> AsyncIterator[Node]:
    """Run a node; it is killed if it doesn't end by itself."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DURABLE_")}
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "dev", app, "--port", "0", "--no-reload"),
            cwd=ROOT,
            env={
                **kept,
                "PYTHONPATH": str(ROOT),
                "DURABLE_DATABASE_URL": database_url,
                "DURABLE_DRAIN_SECONDS": "1",
                **settings,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        running = Node(process, line.removeprefix("Ready on ").strip(), log)
        assert line.startswith("Ready "), running.log
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Caller:
    """A socket that calls methods."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.websocket = websocket
        self._calls = 0

    async def __aenter__(self) -> Caller:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.websocket.close()

    async def send_call(self, method: str, *args: Any) -> str:
        self._calls += 1
        call = {"type": "rpc", "id": str(self._calls), "method": method}
        await self.websocket.send_json({**call, "args": args})
        return str(self._calls)

    async def reply(self, method: str, *args: Any) -> dict[str, Any]:
        """The frame that answers a call."""
        return await self.answer(await self.send_call(method, *args))

    async def answer(self, call_id: str) -> dict[str, Any]:
        """The frame that answers this call."""
        while True:
            message = await self.websocket.receive(LIMIT)
            assert message.type is aiohttp.WSMsgType.TEXT, message
            frame = json.loads(message.data) if message.data[:1] == "{" else None
            if frame is not None and frame.get("id") == call_id:
                return dict(frame)

    async def until(self, text: str) -> None:
        while True:
            message = await self.websocket.receive(LIMIT)
            assert message.type is aiohttp.WSMsgType.TEXT, message
            if message.data == text:
                return

    async def closed(self) -> tuple[int | None, str | None]:
        """How the server closes."""
        while True:
            message = await self.websocket.receive(LIMIT)
            if message.type is aiohttp.WSMsgType.CLOSE:
                return message.data, message.extra
            if message.type is not aiohttp.WSMsgType.TEXT:
                return self.websocket.close_code, None


class Client:
    """HTTP and sockets to one node."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def get(self, path: str, **options: Any) -> tuple[int, str]:
        async with self.session.get(self.url + path, **options) as response:
            return response.status, await response.text()

    async def call(self, path: str) -> Caller:
        websocket = await self.session.ws_connect(
            self.url + path, max_msg_size=0, autoclose=True
        )
        return Caller(websocket)


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    limit = aiohttp.ClientTimeout(LIMIT)
    async with aiohttp.ClientSession(timeout=limit) as session:
        yield Client(session, url)


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@asynccontextmanager
async def mute(port: int, path: str) -> AsyncIterator[asyncio.StreamReader]:
    """A socket whose client reads nothing after the answer to its upgrade."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    headers = {"Host": f"127.0.0.1:{port}", **UPGRADE}
    lines = [f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    try:
        yield reader
    finally:
        writer.transport.abort()
