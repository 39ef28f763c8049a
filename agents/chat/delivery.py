"""Who hears what: frames to all connections, to all but one, to those that follow.

A connection that was told of a stream to resume hears nothing of it until it has
acknowledged; then it gets all chunks so far, and after them the live ones. No gap, and
none twice: both is done in one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from agents.chat import protocol
from durable import Frame

if TYPE_CHECKING:
    from agents.chat.chat_agent import AIChatAgent
    from agents.connection import Connection


class Delivery:
    """The connections of one chat."""

    __slots__ = ("_agent", "_parked", "_waiting")

    def __init__(self, agent: AIChatAgent[Any, Any]) -> None:
        self._agent = agent
        # Told of the stream, and not heard from since.
        self._parked: set[Connection] = set()
        # To be told of the stream when it begins.
        self._waiting: set[Connection] = set()

    def one(self, connection: Connection, raw: bytes) -> None:
        """Send to one."""
        connection.send_frame(Frame(raw))

    def all(
        self, raw: bytes, without: Connection | None = None, *, parked: bool = True
    ) -> None:
        """Send to all but one; with ``parked=False`` only to those that follow."""
        skipped = frozenset[Any]() if parked else self._parked
        sockets = [
            connection.websocket
            for connection in self._agent.get_connections()
            if connection is not without and connection not in skipped
        ]
        if sockets:
            self._agent.ctx.send_frame(Frame(raw), sockets)

    def others(self, connection: Connection | None) -> bool:
        """Whether there is anybody else."""
        return any(c is not connection for c in self._agent.get_connections())

    def is_present(self, connection: Connection) -> bool:
        """Whether a connection is still there, as itself or come back."""
        return any(c.id == connection.id for c in self._agent.get_connections())

    # --- streams

    def wait(self, connection: Connection) -> None:
        """Tell a connection of the next stream when that begins."""
        self._waiting.add(connection)

    def offer(self, connection: Connection, turn_id: str, probe: Any = None) -> None:
        """Tell a connection of the stream; it hears no more until it acknowledges."""
        self._parked.add(connection)
        self.one(connection, protocol.resuming(turn_id, probe))

    def stream_began(self, turn_id: str) -> None:
        """Tell those that wait for it."""
        waiting, self._waiting = self._waiting, set()
        for connection in waiting:
            self.offer(connection, turn_id)

    def no_stream(self) -> None:
        """Tell those that wait that there won't be one."""
        waiting, self._waiting = self._waiting, set()
        for connection in waiting:
            self.one(connection, protocol.resume_none("idle"))

    def stream_ended(self) -> None:
        """There is nothing to wait for any more."""
        self._parked.clear()

    def chunks(
        self, turn_id: str, first: int, raws: Sequence[bytes], *, continuation: bool
    ) -> None:
        """Send chunks to those that follow."""
        for seq, raw in enumerate(raws, first):
            body = self._agent.chat_dialect.chunk(raw)
            frame = protocol.chunk(turn_id, body, seq, continuation=continuation)
            self.all(frame, parked=False)

    def replay(
        self,
        connection: Connection,
        turn_id: str,
        raws: Iterable[bytes],
        *,
        continuation: bool,
    ) -> None:
        """Send one connection what it missed; from now on it follows."""
        self._parked.discard(connection)
        for seq, raw in enumerate(raws):
            body = self._agent.chat_dialect.chunk(raw)
            frame = protocol.chunk(
                turn_id, body, seq, continuation=continuation, replay=True
            )
            self.one(connection, frame)
