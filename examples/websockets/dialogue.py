"""An agent that answers inquiries over a WebSocket.

Run: durable dev examples/websockets/dialogue.py

Then, in another terminal: python examples/websockets/dialogue_client.py
"""

from __future__ import annotations

import json

from agents import Agent, Connection


class DialogueAgent(Agent):
    """Counts the words of what it is asked."""

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        """Answer ``{"type": "inquiry", "content": …}``."""
        inquiry = json.loads(message)
        if inquiry.get("type") == "inquiry":
            words = len(inquiry["content"].split())
            connection.send(json.dumps({"type": "insight", "words": words}))
