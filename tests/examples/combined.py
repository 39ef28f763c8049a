"""All the example agents in one server, so that starting it is paid for once.

``fetch`` picks the example's own by a header; agent URLs need none.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from agents import Agent, Request, Response, route_agent_request

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = (
    "agents_api",
    "calling_agents",
    "chat",
    "http_sse",
    "schedules",
    "state",
    "websockets",
)
# These start a server, or talk to one: they run as processes of their own.
PROGRAMS = {
    "agents_api/python_client.py",
    "calling_agents/aiohttp_app.py",
    "calling_agents/fastapi_app.py",
    "calling_agents/served_aiohttp.py",
    "calling_agents/served_fastapi.py",
    "calling_agents/starlette_app.py",
    "chat/app.py",
    "websockets/dialogue_client.py",
}


def modules() -> dict[str, str]:
    """Name → dotted path of every example that has agents to be served."""
    paths = [path for folder in FOLDERS for path in (EXAMPLES / folder).glob("*.py")]
    return {
        path.stem: f"examples.{path.parent.name}.{path.stem}"
        for path in sorted(paths)
        if f"{path.parent.name}/{path.name}" not in PROGRAMS
    }


_modules = {name: importlib.import_module(path) for name, path in modules().items()}
for _module in _modules.values():
    for _name, _class in inspect.getmembers(_module, inspect.isclass):
        if issubclass(_class, Agent) and _class.__module__ == _module.__name__:
            assert _name not in globals(), f"two examples have a class {_name}"
            globals()[_name] = _class


async def fetch(request: Request, env: Any) -> Response:
    """Answer as the example that the header ``X-Example`` names would."""
    chosen = _modules.get(request.headers.get("X-Example", ""))
    if chosen is not None:
        answer: Response = await chosen.fetch(request, env)
        return answer
    return await route_agent_request(request, env) or Response("none", status=404)
