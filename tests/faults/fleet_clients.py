"""Clients of a fleet under faults: any front end, over HTTP and sockets, without end.

What isn't answered well stays *unknown*, whatever was said: a node may have died before
or after the commit. Answers that no fault explains are complaints.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.faults.history import (
    AgentHistory,
    Kind,
    Observation,
    Operation,
    Peek,
    Read,
)

KINDS = tuple(Kind)
SPACES = {"key": "KeyAgent", "sql": "SqlAgent"}
# How long a client waits for an answer; longer than any fault lasts.
LIMIT = aiohttp.ClientTimeout(total=15)
# What a socket may be closed with: gone, owner lost or moved, overload, and no close.
CLOSES = (None, 1000, 1001, 1006, 1012, 1013)


@dataclass(frozen=True, slots=True)
class Told:
    """An answer that left its instance; ``at`` is that process's time of it."""

    at: float
    instance: str


@dataclass(slots=True, kw_only=True)
class Clients:
    """All that they share; ``urls`` are the front ends that are there now.

    ``busy``: the agents that are always under load.
    """

    urls: Callable[[], list[str]]
    busy: Sequence[str]
    histories: Mapping[str, AgentHistory]
    told: Mapping[str, list[Told]]
    random: random.Random
    session: aiohttp.ClientSession
    label: str
    complaints: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def token(self) -> str:
        """A name for one operation that no other has."""
        return f"{self.label}.{next(self._numbers)}"

    def where(self, name: str, url: str | None = None) -> str:
        """The address of an agent at some front end."""
        kind, _, rest = name.partition("/")
        return f"{url or self.random.choice(self.urls())}/agents/{kind}-agent/{rest}"

    async def over_http(self) -> None:
        """One client: an operation after the other, a read now and then."""
        while True:
            name = self.random.choice(self.busy)
            if self.random.random() < 0.1:
                done = await self.read(name) is not None
            else:
                kind, through = self.random.choice(KINDS), None
                if self.random.random() < 0.25:
                    # Through another agent: a call from one to the other.
                    through = self.random.choice([n for n in self.busy if n != name])
                done = await self.write(name, kind, self.token(), through=through)
            if not done:
                # A front end that is gone refuses at once.
                await asyncio.sleep(0.02)

    async def write(
        self,
        name: str,
        kind: Kind,
        token: str,
        url: str | None = None,
        through: str | None = None,
    ) -> bool:
        """Do something once; whether it was acknowledged."""
        query = {"do": kind.value, "token": token}
        if through is not None:
            space, _, rest = name.partition("/")
            query |= {"through": SPACES[space], "name": rest}
        operation = self.histories[name].begin(kind, token, time.monotonic())
        where = self.where(through or name, url)
        answer = await self._ask("POST", where, params=query)
        if answer is None:
            return False
        self._acknowledge(name, operation, answer)
        return True

    def _acknowledge(
        self, name: str, operation: Operation, answer: dict[str, Any]
    ) -> None:
        now = time.monotonic()
        self.histories[name].acknowledge(operation, now, answer["position"])
        self.told[name].append(Told(answer["at"], answer["instance"]))

    async def read(self, name: str, url: str | None = None) -> dict[str, Any] | None:
        """Read all of one agent, and note it; None if it failed."""
        start = time.monotonic()
        answer = await self._ask("GET", self.where(name, url))
        if answer is None:
            return None
        self.histories[name].reads.append(
            Read(
                start=start,
                end=time.monotonic(),
                count=answer["count"],
                increments=answer["increments"],
                entries=tuple(answer["entries"]),
            )
        )
        self.told[name].append(Told(answer["at"], answer["instance"]))
        return answer

    async def peek(self, name: str, url: str, seconds: float = 0.0) -> int | None:
        """Ask for what an agent has in memory after so long; the one who answered."""
        start = time.monotonic()
        params = {"peek": f"{seconds:g}"}
        answer = await self._ask("GET", self.where(name, url), params=params)
        if answer is None:
            return None
        self.histories[name].peeks.append(
            Peek(start=start, end=time.monotonic(), count=answer["count"])
        )
        self.told[name].append(Told(answer["at"], answer["instance"]))
        return int(answer["pid"])

    async def _ask(
        self, method: str, url: str, **options: Any
    ) -> dict[str, Any] | None:
        try:
            async with self.session.request(method, url, **options) as response:
                if response.status == 200:
                    answer: dict[str, Any] = await response.json(content_type=None)
                    return answer
                text = await response.text()
                self.failures[f"HTTP {response.status}"] += 1
                if response.status != 503:
                    self.complaints.append(f"HTTP {response.status}: {text[:300]}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.failures[type(error).__name__] += 1
        return None

    async def over_sockets(self, name: str, depth: int) -> None:
        """One client after the other, with ``depth`` calls in flight on its socket."""
        while True:
            try:
                async with self.session.ws_connect(self.where(name)) as socket:
                    await _SocketClient(self, name, socket).run(depth)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.failures[type(error).__name__] += 1
                await asyncio.sleep(0.02)


class _SocketClient:
    def __init__(
        self, clients: Clients, name: str, socket: aiohttp.ClientWebSocketResponse
    ) -> None:
        self._clients = clients
        self._name = name
        self._socket = socket
        self._label = clients.token()
        self._waiting: dict[str, Operation] = {}

    async def run(self, depth: int) -> None:
        """Call until the socket ends."""
        for _ in range(depth):
            await self._call()
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            await self._take(json.loads(message.data))
        code = self._socket.close_code
        self._clients.failures[f"closed with {code}"] += 1
        if code not in CLOSES:
            self._clients.complaints.append(f"closed with {code}")

    async def _call(self) -> None:
        kind = self._clients.random.choice(KINDS)
        token = self._clients.token()
        history = self._clients.histories[self._name]
        now = time.monotonic()
        self._waiting[token] = history.begin(kind, token, now, self._label)
        await self._socket.send_json(
            {"type": "rpc", "id": token, "method": kind.value, "args": [token]}
        )

    async def _take(self, frame: dict[str, Any]) -> None:
        clients = self._clients
        if frame["type"] == "cf_agent_state":
            clients.histories[self._name].observations.append(
                Observation(
                    at=time.monotonic(),
                    socket=self._label,
                    count=frame["state"]["count"],
                )
            )
        elif frame["type"] == "rpc":
            operation = self._waiting.pop(frame["id"])
            if frame["success"]:
                clients._acknowledge(self._name, operation, frame["result"])
            else:
                clients.failures["a call failed"] += 1
                await asyncio.sleep(0.02)
            await self._call()


def check_instances(told: list[Told]) -> list[str]:
    """I4: of two instances one has said its last word before the other its first."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for word in told:
        first[word.instance] = min(word.at, first.get(word.instance, word.at))
        last[word.instance] = max(word.at, last.get(word.instance, word.at))
    order = sorted(first, key=first.__getitem__)
    return [
        f"two instances at once: {a} until {last[a]:.3f}, {b} from {first[b]:.3f}"
        for a, b in itertools.pairwise(order)
        if last[a] > first[b]
    ]
