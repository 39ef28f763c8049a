"""One link to each other node: listens, dials, and says what moves.

Of two nodes the one with the smaller id dials, so there is one link for each pair and
nobody has to choose. A node that has come and has the larger one knocks: it dials, is
known by the handshake, hangs up, and is dialled at once. Who is there says the table of
workers, looked at every second.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from durable import Unavailable
from durable.tasks import TaskScope
from server.link.connection import LinkConnection, LinkMeter
from server.link.frames import Frame, Hint, Ping, Serves
from server.link.handshake import Handshake
from server.link.peer import Peer, ThisNode

if TYPE_CHECKING:
    from durable.domain.placement import Role, WorkerRow

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Where a node listens for others, and what they have in common.

    ``advertise``: host:port under which others reach it, None for what it listens on.
    ``silent_seconds``: a node that acknowledges nothing for so long is lost. ``tls``:
    contexts for listening and for dialling, or None.
    """

    node: UUID
    role: Role
    host: str
    port: int
    advertise: str | None
    secret: str
    silent_seconds: float
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None


class Mesh:
    """The links of one node. ``live`` asks for the live nodes."""

    def __init__(
        self,
        settings: LinkSettings,
        live: Callable[[], Awaitable[Sequence[WorkerRow]]],
    ) -> None:
        self._settings = settings
        self._live = live
        self.meter = LinkMeter()
        self._node: ThisNode
        self._server: asyncio.Server | None = None
        self._peers: dict[UUID, Peer] = {}
        self._dialling: set[UUID] = set()
        # Whose link broke and hasn't come back: most likely dead.
        self._lost: set[UUID] = set()
        self._scope = TaskScope("links")
        self._change: asyncio.Future[None] | None = None
        self._looking = False
        self._closed = False

    @property
    def address(self) -> str:
        """Where others reach this node's link."""
        if self._settings.advertise is not None:
            return self._settings.advertise
        assert self._server is not None  # it listens
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def __len__(self) -> int:
        return len(self._peers)

    def peer(self, node: UUID) -> Peer | None:
        """The link to a node, if there is one now."""
        return self._peers.get(node)

    def peers(self) -> list[Peer]:
        """All links."""
        return list(self._peers.values())

    async def listen(self) -> None:
        """Bind the address; nobody is answered before ``serve``.

        Raises:
            OSError: the address can't be listened on.
        """
        settings = self._settings
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._connection(dialled=False),
            settings.host,
            settings.port,
            start_serving=False,
            ssl=settings.tls[0] if settings.tls else None,
        )

    async def serve(self, node: ThisNode) -> None:
        """Let other nodes reach this one."""
        self._node = node
        assert self._server is not None  # it listens
        await self._server.start_serving()

    async def look(self) -> None:
        """Dial the nodes that are new, and see whether the others are still there."""
        self.say(Ping())
        if self._looking:
            return
        self._looking = True
        try:
            for row in await self._live():
                if self._is_mine(row) and self._settings.node < row.id:
                    self._dial_later(row)
        except Unavailable as error:
            log.warning("no look at the nodes: %s", error)
        finally:
            self._looking = False

    async def complete(self) -> None:
        """Return when there is a link to every node that may hold sockets."""
        while True:
            change = self._changed()
            missing = [
                row
                for row in await self._live()
                if self._is_mine(row)
                and row.id not in self._peers
                and row.id not in self._lost
                # A worker without a lane is dead; a front end never has one.
                and (row.present or row.role == "front")
            ]
            if not missing:
                return
            for row in missing:
                self._dial_later(row)
            await asyncio.shield(change)

    def say(self, frame: Frame) -> None:
        """Tell all others."""
        for peer in self._peers.values():
            peer.say(frame)

    def hint(self) -> None:
        """Tell all others that shards have left."""
        self.say(Hint())

    async def close(self) -> None:
        """Hang up everywhere."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        await self._scope.close()
        for peer in self.peers():
            await peer.close()
            peer.connection.close()

    def _is_mine(self, row: WorkerRow) -> bool:
        mine = self._settings
        both_front = row.role == "front" and mine.role == "front"
        return row.id != mine.node and row.link_address is not None and not both_front

    def _changed(self) -> asyncio.Future[None]:
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        return self._change

    def _tell(self) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.set_result(None)

    def _dial_later(self, row: WorkerRow) -> None:
        if row.id not in self._peers and row.id not in self._dialling:
            assert row.link_address is not None  # see _is_mine
            self._dialling.add(row.id)
            self._scope.start(self._dial(row.id, row.link_address))

    async def _dial(self, node: UUID, address: str) -> None:
        host, _, port = address.rpartition(":")
        tls = self._settings.tls
        try:
            async with asyncio.timeout(LOOK_SECONDS * 2):
                await asyncio.get_running_loop().create_connection(
                    lambda: self._connection(dialled=True),
                    host.strip("[]"),
                    int(port),
                    ssl=tls[1] if tls else None,
                )
        except (OSError, TimeoutError, ValueError) as error:
            # It is tried again with the next look, as long as its row is there. One
            # that is gone is nothing new; one with the wrong certificate stays so.
            level = logging.WARNING if isinstance(error, ssl.SSLError) else logging.INFO
            log.log(level, "node not reached: %s", error, extra={"node": node.hex})
        finally:
            self._dialling.discard(node)

    def _connection(self, *, dialled: bool) -> LinkConnection:
        settings = self._settings
        return LinkConnection(
            Handshake(settings.secret, settings.node, dialled=dialled),
            on_ready=lambda made: self._ready(made, dialled=dialled),
            on_end=self._ended,
            meter=self.meter,
        )

    def _ready(self, connection: LinkConnection, *, dialled: bool) -> None:
        other = connection.peer
        if dialled is not (self._settings.node < other):
            connection.close()
            if not dialled:
                # It knocked.
                self._scope.start(self.look())
            return
        before = self._peers.get(other)
        if before is not None:
            # The other side knows better: its end of the old one is gone.
            self._drop(before)
        connection.limit_silence(self._settings.silent_seconds)
        peer = Peer(connection, self._node, first=1 if dialled else 2)
        connection.on_frame = peer.on_frame
        self._peers[other] = peer
        self._lost.discard(other)
        log.info("linked", extra={"node": other.hex})
        peer.say(Serves(self._node.serves()))
        self._node.shard_map.refresh()
        self._node.shard_map.tell()
        self._tell()

    def _ended(self, connection: LinkConnection) -> None:
        if not connection.is_ready:
            return
        peer = self._peers.get(connection.peer)
        if peer is not None and peer.connection is connection:
            self._drop(peer)
            # Its shards may be free already.
            self._node.wake(peer.id)

    def _drop(self, peer: Peer) -> None:
        del self._peers[peer.id]
        self._lost.add(peer.id)
        peer.lost()
        if not self._closed:
            self._scope.start(peer.close())
        peer.connection.close()
        log.info("link lost", extra={"node": peer.id.hex})
        self._tell()
