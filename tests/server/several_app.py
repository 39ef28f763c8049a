"""An application that tells which process has answered, and may refuse to start."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from agents import Agent, Request, Response, route_agent_request

if "BROKEN_IF" in os.environ and Path(os.environ["BROKEN_IF"]).exists():
    raise LookupError("broken on purpose")


class Counter(Agent[Any, Any]):
    initial_state = {"count": 0}

    async def on_request(self, request: Request) -> Response:
        await asyncio.sleep(float(request.query.get("seconds", "0")))
        self.set_state({"count": self.state["count"] + 1})
        return Response(str(self.state["count"]))


async def fetch(request: Request, env: Any) -> Response | None:
    if request.path == "/pid":
        return Response(str(os.getpid()))
    return await route_agent_request(request, env)
