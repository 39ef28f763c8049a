"""Another node, over the link: what it says is handed on, what it has can be asked for.

For the sockets that this node holds, the peer is an owner; for those that it holds
itself, this node is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable import DurableObjectId, Frame, Request
from durable.domain.errors import LinkLost
from durable.domain.ports import Kept
from durable.tasks import TaskScope
from server.link import frames
from server.link.asking import Asking
from server.link.served_sockets import ServedSockets
from server.link.serving import Serving
from server.link.streams import Bodies

if TYPE_CHECKING:
    from durable.objects.websocket import SocketTable
    from durable.routing.objects import Objects
    from durable.routing.shard_map import ShardMap
    from server.held_socket import HeldSocket, Message
    from server.held_sockets import HeldSockets, SocketEvents
    from server.link.connection import LinkConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class ThisNode:
    """What a peer may reach of this node, and is told of it."""

    objects: Objects
    events: SocketEvents
    table: SocketTable
    held: HeldSockets
    shard_map: ShardMap
    # Claim what may be free now.
    wake: Callable[[UUID | None], None]
    serves: Callable[[], list[int]]


class Peer:
    """One live link; ``lost`` ends it for all who use it."""

    def __init__(
        self, connection: LinkConnection, node: ThisNode, *, first: int
    ) -> None:
        self.id = connection.peer
        self.connection = connection
        self.say = connection.say
        self._node = node
        self._held = node.held
        self._scope = TaskScope(f"link {self.id.hex[:12]}")
        self._offers: dict[int, tuple[Any, Request]] = {}
        self.sockets = ServedSockets(
            connection, node.events, node.table, node.held.shards
        )
        bodies = self._bodies = Bodies(self.say, self._scope)
        self.objects = Asking(
            self.say,
            bodies,
            first=first,
            offer=self._offer,
            withdraw=self._withdraw,
        )
        serving = Serving(
            self.say, bodies, self._scope, node.objects, self.sockets.port
        )
        self._handlers = self._handlers_of(serving)

    def _handlers_of(self, serving: Serving) -> dict[type[Any], Callable[[Any], None]]:
        """What is done with each kind of frame."""
        answered = self.objects.answered
        bodies = self._bodies
        return {
            frames.Ping: lambda _: None,
            frames.Hint: lambda _: self._node.wake(None),
            frames.Serves: self._serves,
            frames.Call: serving.called,
            frames.Fetch: serving.fetched,
            frames.Cancel: serving.cancelled,
            frames.Returned: answered,
            frames.Answer: answered,
            frames.Failed: answered,
            frames.Attached: answered,
            frames.Parted: answered,
            frames.Piece: bodies.piece,
            frames.End: bodies.end,
            frames.Credit: bodies.credit,
            frames.Stop: bodies.stop,
            frames.Heard: self.sockets.heard,
            frames.Gone: self.sockets.gone,
            frames.Answered: self.sockets.answered,
            frames.Accepted: self._accepted,
            frames.Say: self._said,
            frames.TakeBack: self._taken_back,
            frames.Close: self._closed,
            frames.Keep: self._kept,
            frames.Acknowledged: self._acknowledged,
            frames.Bounced: self._bounced,
            frames.Attach: self._attach,
            frames.Part: self._part,
        }

    def on_frame(self, frame: frames.Frame) -> None:
        """Take what the other node says."""
        self._handlers[type(frame)](frame)

    def lost(self) -> None:
        """The link is gone."""
        error = LinkLost("the object's node was lost; whether it ran is unknown")
        self.objects.lost(error)
        self._bodies.lost(error)
        self._held.lost(self)
        self.sockets.lost()

    async def close(self) -> None:
        """End what still runs for the other node."""
        await self._scope.close()

    # --- sockets of objects here, which the other node holds

    async def attach(self, shards: list[int]) -> list[frames.Held]:
        """Ask which sockets it holds in these shards; they are ours from then on."""
        id = self.objects.new_id()
        asking = self.objects.ask(id, frames.Attach(id, shards))
        attached: frames.Attached = await asking
        return attached.sockets

    async def part(self, shards: list[int]) -> None:
        """Return when all that was said is with its clients; nothing more will be."""
        id = self.objects.new_id()
        self.sockets.give_back(shards)
        self.sockets.part(shards)
        await self.objects.ask(id, frames.Part(id, shards))

    # --- sockets held here, of objects there (a SocketOwner)

    def heard(self, held: HeldSocket, message: Message) -> None:
        """The client said something."""
        number = held.sending(message)
        if isinstance(message, str):
            payload, text = message.encode("utf-8", "surrogatepass"), True
        else:
            payload, text = bytes(message), False
        self.say(frames.Heard(held.number, number, payload, text))

    def gone(self, held: HeldSocket, code: int, reason: str, was_clean: bool) -> None:
        """The client has gone."""
        self.say(frames.Gone(held.number, code, reason, was_clean))

    def parted(self, held: HeldSocket) -> None:
        """Nothing to do: what is kept with it is at hand."""

    def answered(self, held: HeldSocket, at: float) -> None:
        """The client was answered for its object."""
        self.say(frames.Answered(held.number, at))

    def _offer(self, port: Any, request: Request) -> int:
        number = self._held.number()
        self._offers[number] = (port, request)
        return number

    def _withdraw(self, number: int) -> None:
        self._offers.pop(number, None)

    def _accepted(self, frame: frames.Accepted) -> None:
        offered = self._offers.pop(frame.socket, None)
        if offered is None:
            return
        port, request = offered
        self._held.hold(
            port,
            DurableObjectId(UUID(bytes=frame.object), frame.name),
            self,
            socket_id=frame.id,
            url=request.url,
            headers=request.headers,
            number=frame.socket,
        )

    def _said(self, frame: frames.Say) -> None:
        said = Frame(frame.payload, text=frame.text, coalesce=frame.coalesce)
        for number in frame.sockets:
            held = self._held.find(number, self)
            if held is not None:
                held.port.send(said)

    def _taken_back(self, frame: frames.TakeBack) -> None:
        held = self._held.find(frame.socket, self)
        if held is not None:
            held.port.take_back()

    def _closed(self, frame: frames.Close) -> None:
        held = self._held.find(frame.socket, self)
        if held is not None:
            held.port.close(frame.code, frame.reason)

    def _kept(self, frame: frames.Keep) -> None:
        held = self._held.find(frame.socket, self)
        if held is not None:
            held.kept = Kept(frame.tags, frame.attachment, frame.options)

    def _acknowledged(self, frame: frames.Acknowledged) -> None:
        for number, taken, count in frame.sockets:
            held = self._held.find(number, self)
            if held is not None:
                held.unacknowledged -= count
                held.taken(taken)

    def _bounced(self, frame: frames.Bounced) -> None:
        held = self._held.find(frame.socket, self)
        if held is not None:
            held.bounced(frame.number)

    def _attach(self, frame: frames.Attach) -> None:
        found = []
        for held in self._held.attach(self, frame.shards):
            found.append(
                frames.Held(
                    held.number,
                    held.object_id.value.bytes,
                    held.object_id.name,
                    held.id,
                    held.url,
                    [(str(n), value) for n, value in held.headers.items()],
                    held.kept.tags,
                    held.kept.attachment,
                    held.kept.options,
                    held.answered,
                    held.clean,
                )
            )
            held.attached(self)
        self.say(frames.Attached(frame.id, found))

    def _part(self, frame: frames.Part) -> None:
        self._held.part(self, frame.shards)
        self.say(frames.Parted(frame.id))

    def _serves(self, frame: frames.Serves) -> None:
        self._node.shard_map.claimed(frame.shards, self.id)
        self._held.serves(self, frame.shards)
