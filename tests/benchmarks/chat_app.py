"""A chat whose model speaks at a steady pace, and says when it said each word."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from agents.chat import AIChatAgent, ChatOptions


class BenchChat(AIChatAgent[Any, Any]):
    """``body``: ``chunks``, how many, and ``seconds``, how far apart."""

    messages_in_memory = 50

    async def on_chat_message(self, options: ChatOptions) -> AsyncIterator[str]:
        """Say the time, again and again."""
        body = options.body or {}
        due = time.monotonic()
        for _ in range(int(body.get("chunks", 1))):
            due += float(body.get("seconds", 0))
            await asyncio.sleep(due - time.monotonic())
            yield f"{time.time()} "

    async def fill(self, count: int) -> None:
        """Have a history of so many messages."""
        for start in range(0, count, 500):
            await self.persist_messages(
                [
                    {
                        "id": f"m{number:06}",
                        "role": "user" if number % 2 else "assistant",
                        "parts": [{"type": "text", "text": f"message {number} " * 20}],
                    }
                    for number in range(start, min(start + 500, count))
                ]
            )

    def remembered(self) -> int:
        """How many messages are in memory."""
        return len(self.messages)
