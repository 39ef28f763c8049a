"""The stream of a turn as Server-Sent Events, from any of its chunks on.

The same log as for sockets: an event's id is the turn's and the chunk's number, so a
client that comes back with ``Last-Event-ID`` gets the next one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from agents.chat.chunk_log import read_chunks
from agents.server_sent_events import event_stream
from durable import Request, Response

if TYPE_CHECKING:
    from agents.chat.turn_store import TurnStore
    from agents.chat.turns import Turns
    from agents.work_rows import RowStorage

# How a UI message stream over HTTP ends.
DONE = "[DONE]"
HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}


class Events:
    """Answers requests for the streams of one chat."""

    __slots__ = ("_storage", "_store", "_turns")

    def __init__(self, storage: RowStorage, store: TurnStore, turns: Turns) -> None:
        self._storage = storage
        self._store = store
        self._turns = turns

    def answer(self, request: Request) -> Response:
        """The stream that runs, or the one that ``Last-Event-ID`` is of.

        204 if there is none: a browser's EventSource doesn't ask again then.
        """
        turn_id, after = _place(request.headers.get("Last-Event-ID", ""))
        stream = self._turns.stream
        if turn_id is None and stream is not None:
            turn_id = stream.turn_id
        if turn_id is None or self._store.find(turn_id) is None:
            return Response(status=204)
        return event_stream(self._events(turn_id, after + 1), headers=HEADERS)

    async def _events(self, turn_id: str, number: int) -> AsyncIterator[Any]:
        while (stream := self._turns.stream) is not None and stream.turn_id == turn_id:
            for raw in stream.log.chunks[number:]:
                yield _event(turn_id, number, raw)
                number += 1
            if number >= len(stream.log.chunks):
                await stream.moved.wait()
        found = self._store.find(turn_id)
        if found is not None:
            for raw in (await read_chunks(self._storage, found[0]))[number:]:
                yield _event(turn_id, number, raw)
                number += 1
        yield {"id": f"{turn_id}:{number}", "data": DONE}


def _event(turn_id: str, number: int, raw: bytes) -> dict[str, str]:
    return {"id": f"{turn_id}:{number}", "data": raw.decode()}


def _place(given: str) -> tuple[str | None, int]:
    """The turn and the number of the chunk that a client had last."""
    turn_id, colon, number = given.rpartition(":")
    if colon and number.isascii() and number.isdigit() and len(number) < 10:
        return turn_id, int(number)
    return None, -1
