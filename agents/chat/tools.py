"""Tool calls that a client or a person answers, and the continuation that follows.

The first answer wins, wherever the call is kept: in the transcript, or in the answer
that still streams. The continuation is owed from then on: its row is written with that
answer, and is gone when its turn has been accepted.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agents.chat import protocol
from agents.chat.message_builder import OPEN_STATES
from agents.chat.remembered import ContextRow
from agents.chat.transcript_rules import (
    Message,
    approve_tool,
    find_tool,
    open_tools,
    settle_tool,
)
from agents.chat.turn_order import Concurrency, Turn
from agents.jobs import new_id

if TYPE_CHECKING:
    from agents.chat.chat_agent import AIChatAgent
    from agents.chat.delivery import Delivery
    from agents.chat.remembered import Remembered
    from agents.chat.transcript import Transcript
    from agents.chat.turns import Turns
    from agents.connection import Connection

# Answers that come so close together have one continuation.
GATHER_SECONDS = 0.05


class Tools:
    """The tool calls of one chat."""

    __slots__ = (
        "_agent",
        "_connection",
        "_delivery",
        "_remembered",
        "_timer",
        "_transcript",
        "_turns",
    )

    def __init__(
        self,
        agent: AIChatAgent[Any, Any],
        transcript: Transcript,
        turns: Turns,
        delivery: Delivery,
        remembered: Remembered,
    ) -> None:
        self._agent = agent
        self._transcript = transcript
        self._turns = turns
        self._delivery = delivery
        self._remembered = remembered
        self._timer: asyncio.TimerHandle | None = None
        # Who answered last.
        self._connection: Connection | None = None
        turns.ended = self.look

    async def answered(self, connection: Connection, frame: Mapping[str, Any]) -> None:
        """A client brings the result of a tool."""
        failed = frame.get("state") == "output-error"
        text = frame.get("errorText")

        def settle(part: dict[str, Any]) -> bool:
            return settle_tool(
                part,
                output=frame.get("output"),
                failed=failed,
                error_text=text if isinstance(text, str) else None,
            )

        if await self.change(frame.get("toolCallId"), settle):
            await self._follow_up(connection, frame)

    async def approved(self, connection: Connection, frame: Mapping[str, Any]) -> None:
        """A person has said whether a tool may run."""
        approved = frame.get("approved") is True
        call_id = frame.get("toolCallId")
        if await self.change(call_id, lambda part: approve_tool(part, approved)):
            await self._follow_up(connection, frame)

    async def change(self, call_id: Any, act: Callable[[dict[str, Any]], bool]) -> bool:
        """Change the part of a tool call, and tell everybody; whether it changed."""
        if not isinstance(call_id, str):
            return False
        message = await self._changed(call_id, act)
        if message is None:
            return False
        raw = self._agent.chat_dialect.message(protocol.stored(message))
        self._delivery.all(protocol.message_updated(raw))
        return True

    async def owe(
        self,
        connection: Connection | None = None,
        client_tools: list[Any] | None = None,
    ) -> None:
        """Let the answer go on, once no tool call of it is open."""
        owed, context = self._remembered.owed, self._remembered.context
        row = ContextRow(
            id=new_id() if owed is None else owed.id,
            body=context.body,
            client_tools=client_tools or context.client_tools,
        )
        self._connection = connection
        self._remembered.owe(row)
        await self._agent.chat_goes_on()
        self.look()

    @property
    def continuation_id(self) -> str | None:
        """The id of the continuation that comes next; None while a call is open."""
        owed = self._remembered.owed
        last = self._transcript.last_answer()
        if owed is None or open_tools(last, OPEN_STATES):
            return None
        return owed.id

    def look(self) -> None:
        """Make the continuation that is owed, soon, if it can be made."""
        if self._remembered.owed is not None and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(GATHER_SECONDS, self._begin)

    def forget(self) -> None:
        """Nothing is owed any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._remembered.settle()

    def _begin(self) -> None:
        self._timer = None
        self._agent.ctx.wait_until(self._continue())

    async def _continue(self) -> None:
        owed, turns = self._remembered.owed, self._turns
        if owed is None or len(turns.order):
            # The end of the turn that runs looks again.
            return
        last = self._transcript.last_answer()
        if last is None:
            self.forget()
            return
        if open_tools(last, OPEN_STATES):
            # The next answer looks again.
            return
        turn = Turn(
            owed.id,
            continuation=True,
            connection=self._connection,
            body=owed.body,
            client_tools=owed.client_tools,
        )
        if turns.order.admit(turn, Concurrency(), 0).accepted:
            self._remembered.settle()
            await turns.accept(turn)

    async def _follow_up(
        self, connection: Connection, frame: Mapping[str, Any]
    ) -> None:
        if frame.get("autoContinue") is True:
            await self.owe(connection, protocol.tools_of(frame))
        else:
            # It may be the one that others waited for.
            self.look()

    async def _changed(
        self, call_id: str, act: Callable[[dict[str, Any]], bool]
    ) -> Message | None:
        """The message that was changed and stored, None if nothing was."""
        stream = self._turns.stream
        if stream is not None:
            found = find_tool([stream.message], call_id)
            if found is not None:
                message, part = found
                if not act(part):
                    return None
                # It must not be lost with the owner: the rest follows at the end.
                turn = self._turns.order.running
                ids = [] if turn is None else turn.message_ids
                self._transcript.put(message, after=ids[-1] if ids else None)
                return message
        found = find_tool(reversed(self._transcript.messages), call_id)
        if found is None and self._transcript.has_older:
            older = await self._transcript.read_all()
            found = find_tool(reversed(older), call_id)
        if found is None:
            return None
        message = copy.deepcopy(found[0])
        changed = find_tool([message], call_id)
        if changed is None or not act(changed[1]):
            return None
        self._transcript.put(message)
        return message
