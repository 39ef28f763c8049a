"""A chat with a language model: it streams, looks things up, and asks before it orders.

Run: DURABLE_VAR_MODEL_URL=http://127.0.0.1:11434/v1 \
         durable dev examples/chat/assistant.py

Then use it from React: useAgentChat({ agent: useAgent({ agent: "Assistant" }) })

Works with any server that speaks the OpenAI chat API (Ollama, llama.cpp, vLLM, …).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

import aiohttp

from agents import Request, Response, route_agent_request
from agents.chat import AIChatAgent
from agents.chat import ui_stream as ui

MAX_STEPS = 5


def tool(name: str, about: str, argument: str) -> dict[str, Any]:
    """A tool with one text argument, as the OpenAI API describes it."""
    schema = {"type": "object", "properties": {argument: {"type": "string"}}}
    function = {"name": name, "description": about, "parameters": schema}
    return {"type": "function", "function": function}


TOOLS = [
    tool("weather", "The weather in a city", "city"),
    tool("order", "Order a thing; the user is asked first", "thing"),
]
# These run only if a person allows it.
ASK_FIRST = {"order"}


class Env(Protocol):
    """What the agent finds on ``self.env``: variables named DURABLE_VAR_…"""

    MODEL_URL: str


class Assistant(AIChatAgent[Env]):
    """Talks, with two tools."""

    chat_recovery = True

    async def on_chat_message(self) -> AsyncIterator[Any]:
        """Ask the model, run its tools, and ask again with what they returned."""
        # What was decided about the calls of the last answer, days ago perhaps.
        decided: list[Any] = []
        async for chunk in self.run_decided():
            decided.append(chunk)
            yield chunk
        messages = as_openai(self.messages, decided)
        for step in range(MAX_STEPS):
            if step:
                yield ui.new_step()
            said, calls = "", list[dict[str, Any]]()
            async for delta in self.ask(messages):
                if text := delta.get("content"):
                    said += text
                    yield text
                collect(calls, delta.get("tool_calls") or [])
            if not calls:
                return
            messages.append(
                {"role": "assistant", "content": said or None, "tool_calls": calls}
            )
            waiting = False
            for call in calls:
                id, name = call["id"], call["function"]["name"]
                given = json.loads(call["function"]["arguments"] or "{}")
                yield ui.tool_call(id, name, given)
                if name in ASK_FIRST:
                    yield ui.tool_approval(id)
                    waiting = True
                else:
                    output = ui.tool_output(id, self.run(name, given))
                    yield output
                    messages += as_results([output])
            if waiting:
                # The answer goes on when they have decided.
                return

    async def run_decided(self) -> AsyncIterator[Any]:
        """Run what a person has allowed since."""
        last = self.messages[-1]
        for part in last["parts"] if last["role"] == "assistant" else ():
            if part.get("state") == "approval-responded":
                name = part["type"].removeprefix("tool-")
                output = self.run(name, part["input"])
                yield ui.tool_output(part["toolCallId"], output)
            elif part.get("state") == "output-denied":
                yield ui.tool_denied(part["toolCallId"])

    def run(self, name: str, given: dict[str, Any]) -> Any:
        """Run a tool."""
        if name == "weather":
            return {"city": given.get("city"), "celsius": 4, "sky": "clear"}
        if name == "order":
            return f"ordered: {given.get('thing')}"
        return f"there is no tool {name}"

    async def ask(self, messages: list[Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the deltas of the model's answer."""
        body = {
            "model": getattr(self.env, "MODEL", "llama3.2"),
            "stream": True,
            "messages": messages,
            "tools": TOOLS,
        }
        key = getattr(self.env, "MODEL_KEY", "none")
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{self.env.MODEL_URL}/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer {key}"},
            ) as answer,
        ):
            if answer.status != 200:
                # What a client may know; the rest is for the log.
                raise RuntimeError(f"The model answered with {answer.status}.")
            async for line in answer.content:
                text = line.decode().strip().removeprefix("data: ")
                if text and text != "[DONE]":
                    for choice in json.loads(text)["choices"]:
                        yield choice["delta"]


def collect(calls: list[dict[str, Any]], deltas: list[dict[str, Any]]) -> None:
    """Put together calls that come in pieces."""
    for delta in deltas:
        while len(calls) <= delta["index"]:
            empty = {"name": "", "arguments": ""}
            calls.append({"id": "", "type": "function", "function": empty})
        call = calls[delta["index"]]
        call["id"] = delta.get("id") or call["id"]
        for field, piece in (delta.get("function") or {}).items():
            call["function"][field] += piece or ""


def as_openai(
    messages: list[dict[str, Any]], decided: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The history in the words of the OpenAI API, which wants a result of each call.

    ``decided`` are the results that came just now.
    """
    results = {chunk["toolCallId"]: chunk for chunk in decided}
    found: list[dict[str, Any]] = []
    for message in messages:
        text = "".join(p["text"] for p in message["parts"] if p["type"] == "text")
        tools = [p for p in message["parts"] if p["type"].startswith("tool-")]
        said: dict[str, Any] = {"role": message["role"], "content": text or None}
        if tools:
            said["tool_calls"] = [
                {
                    "id": part["toolCallId"],
                    "type": "function",
                    "function": {
                        "name": part["type"].removeprefix("tool-"),
                        "arguments": json.dumps(part.get("input")),
                    },
                }
                for part in tools
            ]
        found.append(said)
        found += as_results([results.get(p["toolCallId"]) or result(p) for p in tools])
    return found


def result(part: dict[str, Any]) -> dict[str, Any]:
    """What there is of a call's result."""
    id = part["toolCallId"]
    if part["state"] == "output-denied":
        return ui.tool_denied(id)
    return ui.tool_output(id, part.get("output", "The user hasn't decided yet."))


def as_results(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What tools returned, in the words of the OpenAI API."""
    return [
        {
            "role": "tool",
            "tool_call_id": chunk["toolCallId"],
            "content": json.dumps(chunk.get("output", "The user said no.")),
        }
        for chunk in chunks
    ]


async def fetch(request: Request, env: Any) -> Response:
    """Route to the agents."""
    answer = await route_agent_request(request, env)
    return answer or Response("Not found", status=404)
