"""The agents behind the JavaScript samples of this folder, and their page.

Run: (cd examples/frontend && npm ci && npm run build)
     durable dev examples/frontend/pages.py

Then open http://127.0.0.1:8787/
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

from agents import Agent, Connection, Request, Response, route_agent_request

HERE = Path(__file__).parent
FILES = {
    "/": (HERE / "index.html", "text/html; charset=utf-8"),
    "/react_page.js": (HERE / "dist/react_page.js", "text/javascript; charset=utf-8"),
    "/chat_client.js": (HERE / "dist/chat_client.js", "text/javascript; charset=utf-8"),
}


class Thoughts(TypedDict):
    """What state_interface.jsx shows."""

    counter: int


class ThinkingAgent(Agent[Any, Thoughts]):
    """Shares a state with React; there is nothing else to write."""

    initial_state = Thoughts(counter=0)


class DialogueAgent(Agent):
    """Answers the inquiries of agent_interface.jsx and dialogue_client.mjs."""

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        """Tell how many words were asked."""
        inquiry = json.loads(message)
        if inquiry.get("type") == "inquiry":
            words = len(inquiry["content"].split())
            connection.send(json.dumps({"type": "insight", "words": words}))


class ChatAgent(Agent):
    """Passes on what chat_client.mjs says."""

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        """Remember who joined; send messages to everybody, with the sender's name."""
        said = json.loads(message)
        if said["type"] == "join":
            connection.set_state({"user": said["user"]})
        elif said["type"] == "message":
            user = (connection.state or {}).get("user", "somebody")
            self.broadcast(json.dumps({**said, "user": user}))


class TaskManager(Agent):
    """Answers the HTTP requests of task_fetch.mjs."""

    async def on_request(self, request: Request) -> Response:
        """Ask for a token before anything is told."""
        if request.headers.get("Authorization") != "Bearer my-token":
            return Response.json({"error": "not authorized"}, status=401)
        return Response.json({"owner": self.name, "tasks": ["water the plants"]})


async def fetch(request: Request, env: Any) -> Response:
    """Route to the agents, else serve the built page."""
    if answer := await route_agent_request(request, env):
        return answer
    if request.path not in FILES:
        return Response("Not found", status=404)
    path, content_type = FILES[request.path]
    if not path.exists():
        return Response("Run: npm ci && npm run build", status=503)
    return Response(path.read_bytes(), headers={"Content-Type": content_type})
