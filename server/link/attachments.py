"""Shards that come to this node and leave it, as all who hold sockets see it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from uuid import UUID

from durable import DurableError, DurableObjectId, Unavailable
from durable.domain.errors import LinkLost
from durable.domain.ids import shard_of
from durable.tasks import TaskScope
from server.held_socket import RESTARTED
from server.link.frames import Serves

if TYPE_CHECKING:
    from durable.domain.writes import Claim
    from durable.objects.websocket import SocketRecord
    from durable.routing.shard_map import ShardMap
    from server.held_sockets import HeldSockets, LocalOwner, SocketEvents
    from server.link.mesh import Mesh
    from server.link.peer import Peer

log = logging.getLogger(__name__)

# A claimed shard is served after so many seconds even if not every node has answered;
# who answers later has its sockets closed.
ATTACH_SECONDS = 0.5
# So long may the other nodes take to pass on what was said last.
PART_SECONDS = 0.5


class Attachments:
    """The seams of this node's shards: see ``ShardSeams``."""

    def __init__(
        self,
        node: UUID,
        mesh: Mesh,
        held: HeldSockets,
        shard_map: ShardMap,
    ) -> None:
        self._node = node
        self._mesh = mesh
        self._held = held
        self._map = shard_map
        self._scope = TaskScope("attaching")
        self.local: LocalOwner
        self.events: SocketEvents
        # Objects to be told of a socket whose owner was lost, once they are served.
        self._restored: list[tuple[DurableObjectId, SocketRecord]] = []

    async def before_open(self, claims: list[Claim]) -> None:
        """Ask every node for the sockets that it holds in these shards."""
        shards = [claim.shard for claim in claims]
        for held in self._held.attach(self.local, shards):
            was_clean = held.clean
            record = self.local.attach(held)
            if not was_clean:
                self._restored.append((held.object_id, record))
        try:
            async with asyncio.timeout(ATTACH_SECONDS):
                await self._mesh.complete()
        except (TimeoutError, Unavailable):
            log.warning("shards are served before all nodes are linked")
        late = asyncio.Event()
        asked = [
            self._scope.start(self._ask(peer, shards, late))
            for peer in self._mesh.peers()
        ]
        if asked:
            await asyncio.wait(asked, timeout=ATTACH_SECONDS)
            late.set()

    async def _ask(self, peer: Peer, shards: list[int], late: asyncio.Event) -> None:
        peer.sockets.part(shards)
        try:
            found = await peer.attach(shards)
        except LinkLost:
            return
        if late.is_set():
            peer.sockets.refuse(found)
        else:
            self._restored += peer.sockets.attach(found)

    def on_claimed(self, shards: list[int]) -> None:
        """They are served: let messages come."""
        self._map.claimed(shards, self._node)
        self._mesh.say(Serves(shards))
        self._held.serves(self.local, shards)
        served = set(shards)
        pending, self._restored = self._restored, []
        for object_id, record in pending:
            if shard_of(object_id.value, self._held.shards) not in served:
                self._restored.append((object_id, record))
            elif record.open:
                self._restore(object_id, record)

    def _restore(self, object_id: DurableObjectId, record: SocketRecord) -> None:
        try:
            self.events.socket_restored(object_id, record)
        except DurableError as error:
            log.info("socket not restored: %s", error)
            record.port.close(RESTARTED, "The object is moving")

    async def before_release(self, shards: list[int]) -> None:
        """Nothing runs in them any more: their sockets are to wait for the next owner.

        Returns when all that was said is with the clients, so that nothing that the
        next owner says can overtake it.
        """
        self._held.part(self.local, shards)
        parting = [self._scope.start(_part(p, shards)) for p in self._mesh.peers()]
        if parting:
            await asyncio.wait(parting, timeout=PART_SECONDS)

    def on_released(self, shards: list[int]) -> None:
        """They are free: somebody is to claim them."""
        self._mesh.hint()

    async def close(self) -> None:
        """Wait for nobody any more."""
        await self._scope.close()


async def _part(peer: Peer, shards: list[int]) -> None:
    try:
        await peer.part(shards)
    except LinkLost:
        log.info("a node was lost while shards left", extra={"node": peer.id.hex})
