"""The page of the assistant: React and the stock useAgentChat, served after a build.

Run: (cd examples/chat/page && npm ci && npm run build)
     python -m durable.testing.model --port 8799 &
     DURABLE_VAR_MODEL_URL=http://127.0.0.1:8799/v1 durable dev examples/chat/app.py

Then open http://127.0.0.1:8787/ in two tabs. The model of the second line only repeats
what you say; give the URL of a real one to talk with it.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any

from assistant import Assistant

from agents import Request, Response, route_agent_request

__all__ = ["Assistant", "fetch"]

BUILT = Path(__file__).parent / "page" / "dist"


async def fetch(request: Request, env: Any) -> Response:
    """Route to the agent, else serve the built page."""
    if answer := await route_agent_request(request, env):
        return answer
    name = "index.html" if request.path == "/" else request.path.removeprefix("/")
    # Only what was built: no path leads out of there.
    files = {str(p.relative_to(BUILT)): p for p in BUILT.rglob("*") if p.is_file()}
    if not files:
        return Response("Run: npm ci && npm run build", status=503)
    if name not in files:
        return Response("Not found", status=404)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(files[name].read_bytes(), headers={"Content-Type": kind})
