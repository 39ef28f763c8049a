"""Asking models: streamed over a WebSocket and over HTTP, through a gateway, by name.

Run: cd examples/ai && DURABLE_VAR_MODEL_URL=http://127.0.0.1:11434/v1 durable dev

Then: curl -N http://127.0.0.1:8787/agents/streamer/me -d '{"prompt": "Write a haiku"}'

Without a model: python -m durable.testing.model --port 11434
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

from agents import Agent, Connection, Request, Response
from agents.ai import AI, AIError
from agents.chat import AIChatAgent

DEEPSEEK = "@cf/deepseek-ai/deepseek-r1-distill-qwen-32b"


class Env(Protocol):
    """What the agents find on ``self.env``."""

    AI: AI
    MODEL: str


class Reasoner(Agent[Env]):
    """Long answers over a WebSocket, piece by piece: this can take minutes."""

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        """Take ``{"prompt": …}``."""
        asked = json.loads(message)
        await self.query_reasoning_model(connection, asked["prompt"])

    async def query_reasoning_model(self, connection: Connection, prompt: str) -> None:
        """Send chunks, then that it is done; or what went wrong."""
        try:
            stream = await self.env.AI.run(
                getattr(self.env, "MODEL", "qwen3"), {"prompt": prompt}, stream=True
            )
            async for content in stream.text():
                connection.send(json.dumps({"type": "chunk", "content": content}))
            connection.send(json.dumps({"type": "done"}))
        except AIError as error:
            connection.send(json.dumps({"type": "error", "error": str(error)}))


class Streamer(Agent[Env]):
    """The stream of the model is the response: nothing is buffered."""

    async def on_request(self, request: Request) -> Response:
        """Answer with events, ``data: {"response": "…"}``."""
        asked = await request.json()
        stream = await self.env.AI.run(
            DEEPSEEK, {"prompt": asked["prompt"], "stream": True}
        )
        return Response(stream.sse(), headers={"Content-Type": "text/event-stream"})


class Routed(Agent[Env]):
    """By way of a gateway: the same question is asked once in an hour."""

    async def on_request(self, request: Request) -> Response:
        """Answer with the response, and what the gateway did."""
        response = await self.env.AI.run(
            DEEPSEEK,
            {"prompt": "Build me a durable object that returns JSON."},
            gateway={"id": "my-gateway", "skip_cache": False, "cache_ttl": 3360},
        )
        return Response.json(response)


class Generator(Agent[Env]):
    """One text, whole; of two models, if the first one fails."""

    async def on_request(self, request: Request) -> Response:
        """Answer with the text."""
        answer = await self.env.AI.run(
            ["local/qwen3", DEEPSEEK], {"prompt": "Build me an AI agent on Postgres"}
        )
        return Response.json({"modelResponse": answer["response"]})


class Compatible(Agent[Env]):
    """Google's Gemini, by its endpoint that is compatible with OpenAI's."""

    async def on_request(self, request: Request) -> Response:
        """Stream plain text."""
        return Response(self.worker(), headers={"Content-Type": "text/plain"})

    async def worker(self) -> AsyncIterator[str]:
        """Pass on each piece as it comes."""
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": "Write me a durable object."}
        ]
        stream = await self.env.AI.run(
            "gemini/gemini-flash", {"messages": messages}, stream=True
        )
        async for piece in stream.text():
            yield piece


class CustomerSupport(AIChatAgent[Env]):
    """A chat about the company's policies, for the stock ``useAgentChat``.

    In React: useAgentChat({ agent: useAgent({ agent: "CustomerSupport" }) })
    """

    async def on_chat_message(self) -> AsyncIterator[str]:
        """Answer the conversation so far."""
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": await self.generate_system_prompt()}
        ]
        for message in self.messages:
            text = "".join(part.get("text", "") for part in message["parts"])
            messages.append({"role": message["role"], "content": text})
        stream = await self.env.AI.run(
            getattr(self.env, "MODEL", "qwen3"), {"messages": messages}, stream=True
        )
        async for piece in stream.text():
            yield piece

    async def generate_system_prompt(self) -> str:
        """From a knowledge base, or as here from the object's own keys."""
        policies = await self.ctx.storage.get("policies") or "returns within 30 days"
        return (
            "You are a helpful customer support agent. Be friendly and professional. "
            f"If you don't know an answer, say so. Current policies: {policies}"
        )
