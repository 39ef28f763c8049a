"""A pydantic-ai agent as what answers a chat; needs the extra ``pydantic-ai``.

pydantic-ai speaks the AI SDK's stream itself: tools, approvals and reasoning come as
the chunks that ``useAgentChat`` knows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic_ai.ui.vercel_ai import VercelAIAdapter

if TYPE_CHECKING:
    from pydantic_ai import Agent

    from agents.chat.transcript_rules import Message
    from agents.chat.ui_stream import Chunk

_DONE = "[DONE]"
_DATA = "data: "
# Of the AI SDK that @cloudflare/ai-chat reads with.
SDK_VERSION: Final = 7


async def answer(
    agent: Agent[Any, Any], messages: Sequence[Message], **run: Any
) -> AsyncIterator[Chunk]:
    """The chunks of a run over a chat's messages; return it from ``on_chat_message``.

    ``run`` goes to pydantic-ai's run: ``deps``, ``model``, ``usage_limits`` and so on.
    An ``output_type`` with ``DeferredToolRequests`` lets people approve tools: their
    answers are in the messages. When the turn is aborted the run is closed.

    Raises:
        Exception: what the run raised is an ``error`` chunk; bad messages raise.
    """
    request = {"trigger": "submit-message", "id": "chat", "messages": [*messages]}
    adapter: VercelAIAdapter[Any, Any] = VercelAIAdapter(
        agent=agent,
        run_input=VercelAIAdapter.build_run_input(orjson.dumps(request)),
        sdk_version=SDK_VERSION,
    )
    events = adapter.encode_stream(adapter.run_stream(**run))
    async for event in events:
        for line in event.splitlines():
            data = line.removeprefix(_DATA)
            if line.startswith(_DATA) and data != _DONE:
                yield orjson.loads(data)
