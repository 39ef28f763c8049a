"""A Python client that asks the agent of dialogue.py.

Run: python examples/websockets/dialogue_client.py [127.0.0.1:8787]
"""

from __future__ import annotations

import asyncio
import json
import sys

from agents.client import AgentClient


async def main(host: str) -> None:
    """Send an inquiry and wait for what comes back."""
    received: asyncio.Queue[str | bytes] = asyncio.Queue()
    async with AgentClient(
        agent="dialogue-agent",
        name="insight-seeker",
        host=host,
        on_message=received.put_nowait,
    ) as connection:
        # It need not be open yet: what is sent before goes out once it is.
        inquiry = {"type": "inquiry", "content": "What patterns do you see?"}
        connection.send(json.dumps(inquiry))
        print("Received:", await received.get())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8787"))
