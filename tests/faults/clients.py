"""Clients that keep agents busy until their node is gone, and note what they saw.

An operation is noted before it is sent. It is *refused* only when no connection was
made, so nothing can have been sent; whatever else goes wrong leaves it *unknown*.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.faults.history import (
    AgentHistory,
    Kind,
    Observation,
    Operation,
    Outcome,
    Read,
)

PATH = "/agents/fault-agent/"
KINDS = tuple(Kind)
LIMIT = aiohttp.ClientTimeout(total=20)


class UnexpectedAnswerError(Exception):
    """A living node answered with an error, or not at all."""


@dataclass(slots=True, kw_only=True)
class Load:
    """The clients of one round: they share a session, histories and token numbers.

    ``killed`` tells them that errors are to be expected from now on.
    """

    url: str
    histories: dict[str, AgentHistory]
    random: random.Random
    session: aiohttp.ClientSession
    label: str
    killed: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def token(self) -> str:
        """A name for one operation that no other has."""
        return f"{self.label}.{next(self._numbers)}"

    def expect_alive(self, error: object) -> None:
        """Raise unless the node has been killed."""
        if not self.killed.is_set():
            raise UnexpectedAnswerError(str(error))

    async def over_http(self, names: tuple[str, ...]) -> None:
        """One client: an operation after the other, a read now and then."""
        while True:
            name = self.random.choice(names)
            try:
                if self.random.random() < 0.04:
                    await self.read(name)
                else:
                    await self._post(name, self.random.choice(KINDS))
            except aiohttp.ClientError as error:
                self.expect_alive(f"{type(error).__name__}: {error}")
                return

    async def _post(self, name: str, kind: Kind) -> None:
        history = self.histories[name]
        token = self.token()
        operation = history.begin(kind, token, time.monotonic())
        try:
            async with self.session.post(
                f"{self.url}{PATH}{name}", params={"do": kind.value, "token": token}
            ) as response:
                answer = await _json(response)
        except aiohttp.ClientConnectorError:
            operation.outcome = Outcome.REFUSED
            raise
        history.acknowledge(operation, time.monotonic(), answer["position"])

    async def read(self, name: str) -> Read:
        """Read all of one agent, and note it."""
        start = time.monotonic()
        async with self.session.get(f"{self.url}{PATH}{name}") as response:
            answer = await _json(response)
        read = Read(
            start=start,
            end=time.monotonic(),
            count=answer["count"],
            increments=answer["increments"],
            entries=tuple(answer["entries"]),
        )
        self.histories[name].reads.append(read)
        return read

    async def over_websocket(self, name: str, depth: int) -> None:
        """One client with ``depth`` calls in flight on one socket."""
        try:
            async with self.session.ws_connect(f"{self.url}{PATH}{name}") as socket:
                await SocketClient(load=self, name=name, socket=socket).run(depth)
        except aiohttp.ClientError as error:
            self.expect_alive(f"{type(error).__name__}: {error}")


async def _json(response: aiohttp.ClientResponse) -> Any:
    """The body of a good answer; an error answer of a node raises."""
    if response.status != 200:
        text = await response.text()
        raise UnexpectedAnswerError(f"HTTP {response.status}: {text[:500]}")
    return await response.json(content_type=None)


@dataclass(slots=True, kw_only=True)
class SocketClient:
    """Calls over one socket; a new one for each that was answered."""

    load: Load
    name: str
    socket: aiohttp.ClientWebSocketResponse
    label: str = ""
    waiting: dict[str, Operation] = field(default_factory=dict)

    async def run(self, depth: int) -> None:
        """Call until the socket ends."""
        self.label = self.load.token()
        for _ in range(depth):
            await self._call()
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.ERROR:
                break
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise UnexpectedAnswerError(f"a {message.type.name} frame")
            await self._take(json.loads(message.data), time.monotonic())
        self.load.expect_alive(f"socket closed with {self.socket.close_code}")

    async def _call(self) -> None:
        kind = self.load.random.choice(KINDS)
        token = self.load.token()
        history = self.load.histories[self.name]
        operation = history.begin(kind, token, time.monotonic(), self.label)
        self.waiting[token] = operation
        await self.socket.send_json(
            {"type": "rpc", "id": token, "method": kind.value, "args": [token]}
        )

    async def _take(self, frame: dict[str, Any], now: float) -> None:
        history = self.load.histories[self.name]
        if frame["type"] == "cf_agent_state":
            history.observations.append(
                Observation(at=now, socket=self.label, count=frame["state"]["count"])
            )
        elif frame["type"] == "rpc":
            if not frame["success"]:
                raise UnexpectedAnswerError(str(frame.get("error")))
            operation = self.waiting.pop(frame["id"])
            history.acknowledge(operation, now, frame["result"])
            await self._call()
