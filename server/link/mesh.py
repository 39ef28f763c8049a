"""One link to each other node: listens, dials, and finds the owner of a shard.

Of two nodes the one with the smaller id dials, so there is one link for each pair and
nobody has to choose. Who is there says the table of workers, looked at every second;
what has moved, nodes tell each other: both are only hints, the owner's claim decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from durable import Unavailable
from durable.tasks import TaskScope
from server.link.connection import LinkConnection
from server.link.frames import OVERHEAD, Hint, Ping
from server.link.handshake import Handshake
from server.link.peer import Peer

if TYPE_CHECKING:
    from durable.domain.placement import WorkerRow
    from durable.worker.dispatcher import Dispatcher

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Where a node listens for others, and what they have in common.

    ``advertise``: host:port under which others reach it, None for what it listens on.
    ``silent_seconds``: a node that acknowledges nothing for so long is lost.
    """

    node: UUID
    host: str
    port: int
    advertise: str | None
    secret: str
    max_message_bytes: int
    silent_seconds: float


class Mesh:
    """The links of one node."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        live: Callable[[], Awaitable[Sequence[WorkerRow]]],
        on_hint: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._live = live
        self._on_hint = on_hint
        self._objects: Dispatcher
        self._server: asyncio.Server | None = None
        self._peers: dict[UUID, Peer] = {}
        self._dialling: set[UUID] = set()
        self._scope = TaskScope("links")
        self._closed = False

    @property
    def address(self) -> str:
        """Where others reach this node's link."""
        if self._settings.advertise is not None:
            return self._settings.advertise
        assert self._server is not None  # it listens
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def peer(self, node: UUID) -> Peer | None:
        """The link to a node, if there is one now."""
        return self._peers.get(node)

    def __len__(self) -> int:
        return len(self._peers)

    async def listen(self) -> None:
        """Take links of others; their frames wait for ``serve``.

        Raises:
            OSError: the address can't be listened on.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: self._connection(dialled=False),
            self._settings.host,
            self._settings.port,
            start_serving=False,
        )

    async def serve(self, objects: Dispatcher) -> None:
        """Let other nodes reach these objects, and begin to dial."""
        self._objects = objects
        assert self._server is not None  # it listens
        await self._server.start_serving()
        await self.look()

    async def look(self) -> None:
        """Dial the nodes that are new, and see whether the others are still there."""
        for peer in self._peers.values():
            peer.say(Ping())
        try:
            rows = await self._live()
        except Unavailable as error:
            log.warning("no look at the nodes: %s", error)
            return
        for row in rows:
            new = row.id not in self._peers and row.id not in self._dialling
            if row.link_address is not None and self._settings.node < row.id and new:
                self._dialling.add(row.id)
                self._scope.start(self._dial(row.id, row.link_address))

    def hint(self) -> None:
        """Tell all others that shards have moved."""
        for peer in self._peers.values():
            peer.say(Hint())

    async def close(self) -> None:
        """Hang up everywhere."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        await self._scope.close()
        peers = list(self._peers.values())
        for peer in peers:
            await peer.close()
            peer.hang_up()

    async def _dial(self, node: UUID, address: str) -> None:
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOK_SECONDS * 2):
                await loop.create_connection(
                    lambda: self._connection(dialled=True), host.strip("[]"), int(port)
                )
        except (OSError, TimeoutError, ValueError) as error:
            # It is tried again with the next look, as long as its row is there.
            log.info("node not reached: %s", error, extra={"node": node.hex})
        finally:
            self._dialling.discard(node)

    def _connection(self, *, dialled: bool) -> LinkConnection:
        settings = self._settings
        return LinkConnection(
            Handshake(settings.secret, settings.node, dialled=dialled),
            max_frame=settings.max_message_bytes + OVERHEAD,
            on_ready=lambda made: self._ready(made, dialled=dialled),
            on_end=self._ended,
        )

    def _ready(self, connection: LinkConnection, *, dialled: bool) -> None:
        before = self._peers.get(connection.peer)
        if before is not None:
            # The other side knows better: its end of the old one is gone.
            self._drop(before)
        connection.limit_silence(self._settings.silent_seconds)
        peer = Peer(
            connection,
            self._objects,
            first=1 if dialled else 2,
            on_hint=self._on_hint,
        )
        connection.on_frame = peer.on_frame
        self._peers[connection.peer] = peer
        log.info("linked", extra={"node": connection.peer.hex})
        self._on_hint()

    def _ended(self, connection: LinkConnection) -> None:
        if not connection.is_ready:
            return
        connection.is_ready = False
        peer = self._peers.get(connection.peer)
        if peer is not None and peer.uses(connection):
            self._drop(peer)
            self._on_hint()

    def _drop(self, peer: Peer) -> None:
        del self._peers[peer.id]
        peer.lost()
        if not self._closed:
            self._scope.start(peer.close())
        peer.hang_up()
        log.info("link lost", extra={"node": peer.id.hex})
