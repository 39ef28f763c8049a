"""The resume handshake: a client that (re)connects finds the stream that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents.chat import protocol
from agents.chat.chunk_log import read_chunks
from agents.chat.turns import end_frame

if TYPE_CHECKING:
    from agents.chat.delivery import Delivery
    from agents.chat.tools import Tools
    from agents.chat.transcript import Transcript
    from agents.chat.turn_store import TurnRow, TurnStore
    from agents.chat.turns import Turns
    from agents.connection import Connection
    from agents.work_rows import RowStorage


class Resume:
    """Answers the probes and acknowledgements of one chat's clients."""

    __slots__ = (
        "_delivery",
        "_storage",
        "_store",
        "_tools",
        "_transcript",
        "_turns",
    )

    def __init__(
        self,
        storage: RowStorage,
        transcript: Transcript,
        store: TurnStore,
        turns: Turns,
        delivery: Delivery,
        tools: Tools,
    ) -> None:
        self._storage = storage
        self._transcript = transcript
        self._store = store
        self._turns = turns
        self._delivery = delivery
        self._tools = tools

    def connected(self, connection: Connection) -> None:
        """A client is there: tell it what goes on, before all else."""
        turn = self._turns.order.running or self._turns.order.next()
        if self._turns.stream is not None:
            self._delivery.offer(connection, self._turns.stream.turn_id)
        elif turn is not None:
            self._delivery.wait(connection)
            self._delivery.one(connection, protocol.pending(turn.id))

    def requested(self, connection: Connection, frame: Mapping[str, Any]) -> None:
        """A client asks what there is to resume; it gets one answer."""
        probe = frame.get("probeId")
        stream, order = self._turns.stream, self._turns.order
        turn = order.running or order.next()
        next_id = self._tools.continuation_id if turn is None else turn.id
        if stream is not None:
            if self._is_of_another(connection):
                answer = protocol.resume_none("continuation-owned", probe)
                self._delivery.one(connection, answer)
            else:
                self._delivery.offer(connection, stream.turn_id, probe)
        elif next_id is not None:
            self._delivery.wait(connection)
            self._delivery.one(connection, protocol.pending(next_id, probe))
        elif (unheard := self._unheard()) is not None:
            self._delivery.offer(connection, unheard.id, probe)
        else:
            self._delivery.one(connection, protocol.resume_none("idle", probe))

    async def acknowledged(
        self, connection: Connection, frame: Mapping[str, Any]
    ) -> None:
        """A client wants the chunks of a stream."""
        id = frame.get("id")
        if not isinstance(id, str):
            return
        if self._turns.stream is not None and self._turns.stream.turn_id == id:
            self._replay_running(connection)
            return
        found = self._store.find(id)
        if found is not None and not found[1].has_ended:
            # It will stream later; the client is told then.
            self._delivery.wait(connection)
            return
        if found is None:
            ended = protocol.response(id, replay=True)
        else:
            key, row = found
            raws = await read_chunks(self._storage, key)
            self._delivery.replay(connection, id, raws, continuation=row.continuation)
            ended = end_frame(row, replay=True)
        self._delivery.one(connection, ended)

    async def restored(self, connection: Connection) -> None:
        """The owner was lost, and perhaps the last that it said: say it again."""
        raws = await self._transcript.all_raw()
        self._delivery.one(connection, protocol.messages(raws))
        last = self._store.last_ended()
        if last is not None:
            self._delivery.one(connection, end_frame(last[1]))

    def _replay_running(self, connection: Connection) -> None:
        stream = self._turns.stream
        running = self._turns.order.running
        assert stream is not None  # the caller has seen it
        assert running is not None  # it streams
        # What is gathered leaves first; then all of it is in the log.
        stream.log.flush()
        self._delivery.replay(
            connection,
            stream.turn_id,
            stream.log.chunks,
            continuation=running.continuation,
        )
        complete = protocol.response(
            stream.turn_id,
            done=False,
            replay=True,
            replayComplete=True,
            continuation=running.continuation,
        )
        self._delivery.one(connection, complete)

    def _is_of_another(self, connection: Connection) -> bool:
        turn = self._turns.order.running
        return (
            turn is not None
            and turn.continuation
            and turn.connection is not None
            and turn.connection.id != connection.id
            and self._delivery.is_present(turn.connection)
        )

    def _unheard(self) -> TurnRow | None:
        """The last turn, if it failed or was cut off: a client may not know."""
        last = self._store.last_ended()
        if last is None or not (last[1].state == "error" or last[1].cut_off):
            return None
        return last[1]
