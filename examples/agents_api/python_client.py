"""AgentClient and agent_fetch, from Python.

Run: python examples/agents_api/python_client.py [127.0.0.1:8787]

Talks to the server of examples/agents_api/message_board.py.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from agents.client import AgentClient, agent_fetch


def show_state(state: Any, source: str) -> None:
    """Update our picture; source says whether the server or we ourselves changed it."""
    print(f"{len(state['messages'])} messages, says the {source}")


async def main(host: str) -> None:
    """Connect, call a method, hear the ring, and read the board over HTTP."""
    rung = asyncio.Event()

    def hear(message: str | bytes) -> None:
        """Get what the agent sends beside its state: the ring."""
        print("Received:", message)
        rung.set()

    async with AgentClient(
        agent="message-board",  # the class name in kebab-case
        name="team",
        host=host,
        on_state_update=show_state,
        on_message=hear,
        on_close=lambda code, reason, was_clean: print("Disconnected", code),
    ) as client:
        await client.ready
        print("Connected to", client.agent, client.name)
        await client.call("add_message", ["ada", "Tea, @everyone?"])
        await client.stub.add_message("bob", "Yes!")  # the same, written shorter
        await rung.wait()

    response = await agent_fetch(
        agent="message-board",
        name="team",
        host=host,
        headers={"Authorization": "Bearer my-token"},
    )
    response.raise_for_status()
    for message in await response.json():
        print(f"{message['sender']}: {message['text']}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8787"))
