"""A chat agent of a fleet: it counts as far as it is told, one number after another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from agents import Request, Response
from agents.chat import AIChatAgent

AGAIN = os.environ.get("TEST_CHAT_RECOVERY") == "1"


class Room(AIChatAgent[Any, Any]):
    """Answers "N" with the numbers below N, ten milliseconds apart."""

    chat_recovery = AGAIN

    async def on_chat_message(self) -> AsyncIterator[str]:
        asked = self.messages[-1]["parts"][0]["text"]
        for number in range(int(asked)):
            yield f"{number} "
            await asyncio.sleep(0.01)

    def on_request(self, request: Request) -> Response:
        return Response(str(os.getpid()))
