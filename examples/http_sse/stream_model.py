"""Streaming a language model's answer with Server-Sent Events, as it is written.

Run: DURABLE_VAR_MODEL_URL=http://127.0.0.1:11434/v1 \
         durable dev examples/http_sse/stream_model.py

Then: curl -N "http://127.0.0.1:8787/?agent-id=me" -d '{"prompt": "Write a haiku"}'

Works with any server that speaks the OpenAI chat API (Ollama, llama.cpp, vLLM, …).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

import aiohttp

from agents import Agent, Request, Response, event_stream, get_agent_by_name


class Env(Protocol):
    """What the agent finds on ``self.env``: variables named DURABLE_VAR_…"""

    MODEL_URL: str


class Writer(Agent[Env]):
    """Writes what it is asked for."""

    async def on_request(self, request: Request) -> Response:
        """Each piece leaves as soon as the model has said it; nothing is buffered."""
        asked = await request.json()
        return event_stream(self.call_model(asked["prompt"]))

    async def call_model(self, prompt: str) -> AsyncIterator[str]:
        """Yield the pieces of the model's answer."""
        body = {
            "model": getattr(self.env, "MODEL", "llama3.2"),
            "stream": True,
            "messages": [{"role": "user", "content": prompt}],
        }
        key = getattr(self.env, "MODEL_KEY", "none")
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.post(
                f"{self.env.MODEL_URL}/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer {key}"},
            ) as answer,
        ):
            async for line in answer.content:
                text = line.decode().strip().removeprefix("data: ")
                if text and text != "[DONE]":
                    piece = json.loads(text)["choices"][0]["delta"].get("content")
                    if piece:  # the first one has the role only, the last one nothing
                        yield piece


async def fetch(request: Request, env: Any) -> Response:
    """Give each visitor a writer."""
    writer = await get_agent_by_name(Writer, request.query.get("agent-id") or "anybody")
    return await writer.fetch(request)
