"""Two nodes without objects of their own, and the link between them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from durable import (
    DurableObjectId,
    Overloaded,
    Request,
    Response,
)
from durable.domain.errors import Moved
from durable.domain.placement import WorkerRow
from durable.objects import codec
from durable.objects.websocket import SocketTable
from durable.routing.objects import LocalObjects
from durable.routing.shard_map import ShardMap
from server.held_sockets import HeldSockets
from server.link.mesh import LinkSettings, Mesh
from server.link.peer import Peer, ThisNode

SECRET = "s" * 32
SHARDS = 16
FIRST, SECOND = UUID(int=1), UUID(int=2)
TARGET = DurableObjectId(UUID(int=7), "room é")
LIMIT = 10.0
Tls = tuple[ssl.SSLContext, ssl.SSLContext]


class Objects:
    """What a node's objects do is what the test says."""

    def __init__(self) -> None:
        self.answer: Any = lambda request: Response("ok")
        self.cancelled = asyncio.Event()
        self.began = asyncio.Event()

    async def fetch(self, object_id: Any, request: Request, props: Any) -> Any:
        result = self.answer(request)
        return await result if asyncio.iscoroutine(result) else result

    async def call(
        self, object_id: Any, method: str, args: Any, kwargs: Any, props: Any
    ) -> Any:
        self.began.set()
        if method == "hang":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if method == "fail":
            raise args[0] if isinstance(args[0], Exception) else LookupError(args[0])
        if method == "moved":
            raise Moved("not here")
        if method == "overloaded":
            raise Overloaded("too many")
        if method == "large":
            return "x" * args[0]
        return [object_id.value.hex, object_id.name, args, kwargs, props]


class Events:
    """The objects of a node, as their sockets see them: they keep what is said."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[Any] = asyncio.Queue()

    def socket_message(self, object_id: Any, record: Any, message: Any) -> None:
        self.said.put_nowait(message)

    def socket_closed(self, object_id: Any, record: Any, *how: Any) -> None:
        """Nobody asks."""

    def socket_restored(self, object_id: Any, record: Any) -> None:
        """Nobody asks."""


class Node:
    def __init__(
        self, id: UUID, rows: list[WorkerRow], secret: str, tls: Tls | None = None
    ) -> None:
        self.id = id
        self.objects = Objects()
        self.woken = 0

        async def live() -> list[WorkerRow]:
            return rows

        async def owners() -> list[tuple[int, UUID | None]]:
            return [(1, FIRST), (2, SECOND)]

        self.mesh = Mesh(
            LinkSettings(
                node=id,
                role="both",
                host="127.0.0.1",
                port=0,
                advertise=None,
                secret=secret,
                silent_seconds=5,
                tls=tls,
            ),
            live,
        )
        # What is to happen to messages of sockets, if a test has any.
        self.events: Any = Events()
        self.shard_map = ShardMap(owners)
        self.held = HeldSockets(SHARDS, 1000)
        self.this = ThisNode(
            objects=LocalObjects(self.objects),
            events=self.events,
            table=SocketTable(),
            held=self.held,
            shard_map=self.shard_map,
            wake=self.wake,
            serves=lambda: [id.int],
        )

    def wake(self, lost: UUID | None) -> None:
        self.woken += 1

    @property
    def peer(self) -> Peer:
        (peer,) = self.mesh.peers()
        return peer

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        sent = codec.encode_text([list(args), kwargs])
        returned = await self.peer.objects.call(TARGET, method, sent, {"p": 1})
        assert isinstance(returned, str), "it streams"
        return codec.decode(returned)


@asynccontextmanager
async def two_nodes(
    secret: str = SECRET, tls: tuple[Tls | None, Tls | None] = (None, None)
) -> AsyncIterator[tuple[Node, Node]]:
    """Two that know of each other; ``secret`` is the second's."""
    rows: list[WorkerRow] = []
    nodes = Node(FIRST, rows, SECRET, tls[0]), Node(SECOND, rows, secret, tls[1])
    for node in nodes:
        await node.mesh.listen()
        rows.append(WorkerRow(id=node.id, link_address=node.mesh.address))
    for node in nodes:
        await node.mesh.serve(node.this)
    try:
        async with asyncio.timeout(LIMIT):
            yield nodes
    finally:
        for node in nodes:
            await node.mesh.close()


@asynccontextmanager
async def linked(
    tls: tuple[Tls | None, Tls | None] = (None, None),
) -> AsyncIterator[tuple[Node, Node]]:
    """Two with a link."""
    async with two_nodes(tls=tls) as (first, second):
        # The one with the larger id knocks, and is dialled.
        await second.mesh.complete()
        await first.mesh.complete()
        yield first, second


async def raw(node: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = node.mesh.address.split(":")
    return await asyncio.open_connection(host, int(port))
