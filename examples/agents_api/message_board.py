"""State with a limited history, and a reaction when it changes.

Run: durable dev examples/agents_api/message_board.py

Then, in another terminal: python examples/agents_api/python_client.py
"""

from __future__ import annotations

import json
import time
from typing import Any, TypedDict

from agents import Agent, Connection, Request, Response, callable


class Message(TypedDict):
    """One line on the board."""

    sender: str
    text: str
    timestamp: float


class Settings(TypedDict):
    """How the board behaves."""

    max_history_length: int


class BoardState(TypedDict):
    """What every client of the board sees."""

    messages: list[Message]
    settings: Settings


class MessageBoard(Agent[Any, BoardState]):
    """Everybody connected sees each message, and is rung up by @everyone."""

    initial_state = BoardState(messages=[], settings={"max_history_length": 3})

    @callable()
    def add_message(self, sender: str, text: str) -> int:
        """Keep the newest messages; all clients get the new state by themselves."""
        message = Message(sender=sender, text=text, timestamp=time.time())
        length = self.state["settings"]["max_history_length"]
        kept = [*self.state["messages"], message][-length:]
        self.set_state({**self.state, "messages": kept})
        return len(kept)

    async def on_state_changed(
        self, state: BoardState, source: Connection | str
    ) -> None:
        """Look at what has just been written."""
        newest = state["messages"][-1:]
        if newest and "@everyone" in newest[0]["text"]:
            self.notify_all(newest[0])

    def notify_all(self, message: Message) -> None:
        """Send a message of our own, beside the state."""
        self.broadcast(json.dumps({"type": "ring", "from": message["sender"]}))

    async def on_request(self, request: Request) -> Response:
        """Show the board to plain HTTP, for ``agent_fetch``."""
        return Response.json(self.state["messages"])
