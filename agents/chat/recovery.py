"""Turns that were cut off with their owner: ended as such, or run again.

Promise: what the log has of the answer becomes the stored answer, with the outcome
``aborted``; or, with ``chat_recovery``, nothing of it is kept and the turn is run once
more from its beginning. Never a mix, and clients hear which of the two it is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from agents.chat import protocol
from agents.chat.chunk_log import read_chunks
from agents.chat.message_builder import ChunkRefused
from agents.chat.stream import builder_for, new_message_id
from agents.chat.transcript_rules import Message, with_settled
from agents.chat.turn_order import Concurrency, Turn
from agents.chat.turns import end_frame, row_of
from agents.jobs import new_id
from durable import json_text

if TYPE_CHECKING:
    from agents.chat.chat_agent import AIChatAgent
    from agents.chat.delivery import Delivery
    from agents.chat.remembered import Remembered
    from agents.chat.transcript import Transcript
    from agents.chat.turn_store import TurnRow, TurnStore
    from agents.chat.turns import Turns
    from agents.connection import Connection

log = logging.getLogger(__name__)


class Recovery:
    """What a new owner does with the turns of the last one."""

    __slots__ = (
        "_again",
        "_agent",
        "_delivery",
        "_remembered",
        "_store",
        "_transcript",
        "told",
    )

    def __init__(
        self,
        agent: AIChatAgent[Any, Any],
        transcript: Transcript,
        store: TurnStore,
        delivery: Delivery,
        remembered: Remembered,
    ) -> None:
        self._agent = agent
        self._transcript = transcript
        self._store = store
        self._delivery = delivery
        self._remembered = remembered
        # Those who heard of it.
        self.told: set[Connection] = set()
        # To be run when the agent has started.
        self._again: list[Turn] = []

    async def settle(self) -> None:
        """End what was cut off; what is to be run again waits for ``run_again``."""
        unfinished = self._store.unfinished()
        for key, row in unfinished.items():
            await self._settle(key, row)
        if unfinished:
            frame = protocol.messages(await self._transcript.all_raw())
            self._delivery.all(frame)
            self.told = set(self._agent.get_connections())

    async def run_again(self, turns: Turns) -> None:
        """Run what was cut off once more."""
        again, self._again = self._again, []
        for turn in again:
            if turns.order.admit(turn, Concurrency(), 0).accepted:
                await turns.accept(turn)

    async def _settle(self, key: str, row: TurnRow) -> None:
        budget = self._agent.chat_recovery_budget
        log.warning(
            "a chat turn was cut off",
            extra={"agent": self._agent.name, "turn": row.id, "state": row.state},
        )
        if row.recoveries < budget:
            await self._plan_again(key, row)
            return
        raws = await read_chunks(self._agent.ctx.storage, key)
        message = self._rebuilt(row, raws)
        if message is not None:
            asked = row.message_ids[-1] if row.message_ids else None
            self._transcript.put(message, after=asked)
            row.message_id = message["id"]
        row.cut_off = True
        row.state = "error" if budget else "aborted"
        if budget:
            row.error = f"The answer was interrupted {row.recoveries + 1} times."
        self._store.put(key)
        self._delivery.all(end_frame(row))

    async def _plan_again(self, key: str, row: TurnRow) -> None:
        if row.message_id is not None and not row.continuation:
            self._transcript.delete([row.message_id])
        turn = Turn(
            new_id(),
            message_ids=row.message_ids,
            continuation=row.continuation,
            body=self._remembered.context.body,
            client_tools=self._remembered.context.client_tools,
            recoveries=row.recoveries + 1,
        )
        # In the commit that ends the old one.
        turn.key = self._store.add(row_of(turn))
        self._again.append(turn)
        row.state = "recovering"
        self._store.put(key)
        self._delivery.all(end_frame(row))
        self._delivery.all(protocol.recovering(turn.id, recovering=True))
        await self._store.delete_stream(key)

    def _rebuilt(self, row: TurnRow, raws: list[bytes]) -> Message | None:
        """The answer, as far as clients may have seen it."""
        if not raws:
            return None
        before = self._transcript.last_answer() if row.continuation else None
        builder = builder_for(before)
        for raw in raws:
            try:
                builder.add(json_text.loads(raw))
            except ChunkRefused:
                log.exception("a stored chunk doesn't fit")
                break
        message = builder.message
        if not message["parts"] and "metadata" not in message:
            return None
        message["id"] = message["id"] or row.message_id or new_message_id()
        known = (m for m in self._transcript.messages if m["id"] == message["id"])
        stored = next(known, None)
        return message if stored is None else with_settled(message, stored)
