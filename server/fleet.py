"""This node among the others: its link, the shard map, the sockets that it holds."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, cast
from uuid import UUID

from durable.routing.shard_map import ShardMap
from durable.store import registry
from durable.worker.worker import ShardSeams
from server.held_sockets import HeldSockets, LocalOwner
from server.link.attachments import Attachments
from server.link.mesh import LOOK_SECONDS, LinkSettings, Mesh
from server.link.peer import ThisNode
from server.link.tls import contexts_of

if TYPE_CHECKING:
    from durable.domain.placement import Role
    from durable.domain.ports import Timer
    from durable.routing.objects import Objects
    from durable.store.database import Database
    from durable.worker.worker import Worker
    from server.settings import Settings

# How long a call waits for an owner, in leases: longer than a hand-over takes.
PATIENCE_OF_LEASE = 0.75
# A socket whose object nobody has claimed for so many leases is closed.
GIVE_UP_LEASES = 2.0


def _own_name(settings: Settings) -> str | None:
    """What others may dial where we listen on every interface: this host's name."""
    if settings.link_host not in ("0.0.0.0", "::") or not settings.link_port:
        return None
    return f"{socket.gethostname()}:{settings.link_port}"


class Fleet:
    """What of this node other nodes know, and of them this one; open it first."""

    def __init__(self, settings: Settings, database: Database, node: UUID) -> None:
        self._settings = settings
        self._database = database
        self._node = node
        self.shard_map = ShardMap(lambda: registry.shard_map(database))
        self.held = HeldSockets(settings.shards, settings.socket_buffer_bytes)
        self.mesh: Mesh
        self.local: LocalOwner
        self._attachments: Attachments

    async def __aenter__(self) -> Fleet:
        settings, database = self._settings, self._database
        self.mesh = Mesh(
            LinkSettings(
                node=self._node,
                role=cast("Role", settings.role),
                host=settings.link_host,
                port=settings.link_port,
                advertise=settings.link_advertise or _own_name(settings),
                secret=settings.link_secret or await registry.link_secret(database),
                silent_seconds=settings.lease_seconds,
                tls=contexts_of(settings),
            ),
            lambda: registry.live(database, settings.lease_seconds),
        )
        self._attachments = Attachments(
            self._node, self.mesh, self.held, self.shard_map
        )
        await self.mesh.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._attachments.close()
        await self.shard_map.close()
        await self.mesh.close()

    def seams(self) -> ShardSeams:
        """What the keeper of this node's shards is to tell."""
        attachments = self._attachments
        return ShardSeams(
            before_open=attachments.before_open,
            before_release=attachments.before_release,
            on_claimed=attachments.on_claimed,
            on_released=attachments.on_released,
        )

    def reach(self, node: UUID) -> Objects | None:
        """The objects of another node, while there is a link to it."""
        peer = self.mesh.peer(node)
        return None if peer is None else peer.objects

    async def serve(self, worker: Worker, objects: Objects, timer: Timer) -> None:
        """Let other nodes reach this one's objects, before it claims any."""
        dispatcher, keeper = worker.dispatcher, worker.shards
        self.local = LocalOwner(dispatcher, worker.sockets)
        self._attachments.local, self._attachments.events = self.local, dispatcher
        await self.mesh.serve(
            ThisNode(
                objects=objects,
                events=dispatcher,
                table=worker.sockets,
                held=self.held,
                shard_map=self.shard_map,
                wake=keeper.wake,
                serves=keeper.owned_shards,
            )
        )
        self.shard_map.refresh()
        lease = self._settings.lease_seconds

        async def give_up() -> None:
            self.held.give_up(lease * GIVE_UP_LEASES)

        timer.every(LOOK_SECONDS, self.mesh.look)
        timer.every(lease / 4, self.shard_map.refresh_now)
        timer.every(lease / 4, give_up)
