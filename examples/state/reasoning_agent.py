"""A model with a memory: history comes from SQL, and each answer goes back into it.

Run: DURABLE_VAR_MODEL_URL=http://127.0.0.1:11434/v1 \
         durable dev examples/state/reasoning_agent.py

Then: curl http://127.0.0.1:8787/agents/reasoning-agent/me -d '{"user": "Who am I?"}'

Works with any server that speaks the OpenAI chat API (Ollama, llama.cpp, vLLM, …).
"""

from __future__ import annotations

from typing import Any, Protocol

import aiohttp

from agents import Agent, Request, Response


class Env(Protocol):
    """What the agent finds on ``self.env``: variables named DURABLE_VAR_…"""

    MODEL_URL: str


class ReasoningAgent(Agent[Env]):
    """Remembers what it said to each user."""

    async def on_start(self, props: object = None) -> None:
        """Make the table; "user" is a reserved word in Postgres, hence user_id."""
        await self.sql(
            """
            CREATE TABLE IF NOT EXISTS history (
                id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                at TIMESTAMPTZ NOT NULL DEFAULT now(),
                user_id TEXT NOT NULL,
                entry TEXT NOT NULL
            )
            """
        )

    async def on_request(self, request: Request) -> Response:
        """Take ``{"user": prompt, "user_id": …, "system": …}``."""
        prompt = await request.json()
        return Response.json({"answer": await self.call_reasoning_model(prompt)})

    async def call_reasoning_model(self, prompt: dict[str, str]) -> str:
        """Read what is known, ask with it, and remember the answer."""
        user_id = prompt.get("user_id", "anybody")
        rows = await self.sql(
            "SELECT entry FROM history WHERE user_id = $1 ORDER BY id DESC LIMIT 1000",
            user_id,
        )
        known = "\n".join(row["entry"] for row in rows)
        answer = await self.complete(
            system=prompt.get("system", "You are a helpful assistant."),
            user=f"{prompt['user']}\n\nUser history:\n{known}",
        )
        await self.sql(
            "INSERT INTO history (user_id, entry) VALUES ($1, $2)", user_id, answer
        )
        return answer

    async def complete(self, *, system: str, user: str) -> str:
        """Ask the model for one whole answer."""
        body: dict[str, Any] = {
            "model": getattr(self.env, "MODEL", "llama3.2"),
            "temperature": 0.7,
            "max_tokens": 1000,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": user},
            ],
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
            said = await answer.json()
        return str(said["choices"][0]["message"]["content"])
