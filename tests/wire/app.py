"""The module that the wire suite serves, as a user would write it: agents and `fetch`.

Each agent serves one group of rules. What the server called, and in which order,
is kept in `journal` and read back by a call, so that a test sees both sides.
"""

from __future__ import annotations

import asyncio
from typing import Any

from agents import (
    Agent,
    Connection,
    ConnectionContext,
    Request,
    Response,
    SqlError,
    callable,
    get_agent_by_name,
    get_current_agent,
    route_agent_request,
)
from tests.wire.agents_chat import (
    AgainChatAgent,
    ChatAgent,
    DropChatAgent,
    LatestChatAgent,
)
from tests.wire.agents_rooms import RoomAgent, StreamAgent
from tests.wire.agents_state import (
    Journalled,
    LateStateAgent,
    OldHookAgent,
    QuietAgent,
    StateAgent,
)

# Every Agent class found in this module is served under its name.
__all__ = [
    "AgainChatAgent",
    "ChatAgent",
    "DropChatAgent",
    "LateStateAgent",
    "LatestChatAgent",
    "OldHookAgent",
    "QuietAgent",
    "RoomAgent",
    "StreamAgent",
]


async def described(request: Request) -> dict[str, Any]:
    """Return what an agent can see of a request."""
    return {
        "method": request.method,
        "url": str(request.url),
        "query": dict(request.query),
        "headers": {key.lower(): value for key, value in request.headers.items()},
        "body": await request.text(),
    }


class EchoAgent(Journalled):
    """No state: answers every message with itself, every request with its own."""

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        connection.send(message)

    async def on_request(self, request: Request) -> Response:
        seen = {"name": self.name, **await described(request)}
        return Response.json(seen, headers={"X-Method": request.method})


class BareAgent(Agent):
    """Overrides nothing."""


class StoreAgent(Journalled):
    """Storage, SQL, destroy, calls between agents, the current agent."""

    initial_state = {"stored": None}

    async def on_start(self, props: Any = None) -> None:
        await super().on_start(props)
        starts = await self.ctx.storage.get("starts")
        self.starts = (starts or 0) + 1
        self.ctx.storage.put("starts", self.starts)

    async def on_request(self, request: Request) -> Response:
        return Response.json({"current": self.current(), "starts": self.starts})

    async def on_connect(self, connection: Connection, ctx: ConnectionContext) -> None:
        self.journal.append(["connect", self.current()])

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        self.journal.append(["message", self.current()])

    @callable()
    def current(self) -> dict[str, Any]:
        current = get_current_agent()
        connection, request = current.connection, current.request
        return {
            "agent": current.agent is self,
            "connection": None if connection is None else connection.id,
            "request": None if request is None else request.method,
        }

    @callable()
    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "env": hasattr(self.env, "EchoAgent"),
            "id": str(self.ctx.id),
            "starts": self.starts,
        }

    @callable()
    async def fill(self) -> list[dict[str, Any]]:
        self.set_state({"stored": "state"})
        self.ctx.storage.put("key", "value")
        await self.sql("CREATE TABLE note (id integer PRIMARY KEY, body text)")
        await self.sql("INSERT INTO note VALUES ($1, $2)", 1, "one")
        return await self.sql("SELECT id, body FROM note WHERE id = $1", 1)

    @callable()
    async def contents(self) -> dict[str, Any]:
        tables = True
        try:
            await self.sql("SELECT id FROM note")
        except SqlError:
            tables = False
        key = await self.ctx.storage.get("key")
        return {"state": self.state, "key": key, "table": tables}

    @callable()
    async def bad_sql(self) -> dict[str, Any]:
        try:
            await self.sql("SELECT missing_column FROM nowhere")
        except SqlError as error:
            return {"query": error.query, "text": str(error)}
        return {}

    @callable()
    async def destroy_me(self) -> None:
        await self.destroy()

    @callable()
    async def call_other(self, name: str, by: int) -> dict[str, Any]:
        other = await get_agent_by_name(StateAgent, name)
        count = await other.increment(by)
        echo = await get_agent_by_name(self.env.EchoAgent, name, props={"from": "me"})
        answer = await echo.fetch(Request("GET", "http://inside/path?x=1"))
        journal = await echo.read_journal()
        return {"count": count, "fetched": await answer.json(), "echo": journal[0]}


class SlowStartAgent(Journalled):
    """Takes its time to start: longer than its test's client is willing to wait."""

    async def on_start(self, props: Any = None) -> None:
        await asyncio.sleep(0.6)
        await super().on_start(props)

    async def on_connect(self, connection: Connection, ctx: ConnectionContext) -> None:
        self.journal.append(["connect", connection.id])

    async def on_request(self, request: Request) -> Response:
        return Response.json(self.journal)

    @callable()
    def connections(self) -> int:
        return len(list(self.get_connections()))


class FailingAgent(Journalled):
    """Raises in on_request; its on_error has Cloudflare's two-argument order."""

    async def on_request(self, request: Request) -> Response:
        raise RuntimeError("on_request failed")

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        raise RuntimeError("on_message failed")

    async def on_error(  # type: ignore[override]  # the order is what is tested
        self, connection: Any, error: Any = None
    ) -> None:
        shown = connection.id if isinstance(connection, Connection) else connection
        self.journal.append(["error", str(shown), str(error)])


class RaisingAgent(Agent):
    """Raises in on_request; the on_error is the inherited one."""

    async def on_request(self, request: Request) -> Response:
        raise RuntimeError("on_request failed")


class AIChat(EchoAgent):
    """Kebab-case: every capital gets a dash."""


class MyAPI(EchoAgent):
    """Kebab-case: capitals at the end."""


class ALL_CAPS(EchoAgent):  # noqa: N801 - the name is what is tested
    """Kebab-case: all upper case."""


class My_Mixed(EchoAgent):  # noqa: N801 - the name is what is tested
    """Kebab-case: an underscore before a capital."""


class Level2Agent(EchoAgent):
    """Kebab-case: a digit is no boundary."""


class Trailing_(EchoAgent):  # noqa: N801 - the name is what is tested
    """Kebab-case: a trailing dash is dropped."""


async def hook(request: Request, info: Any) -> Request | Response | None:
    """Answer, replace or pass a request, as its query says."""
    seen = f"{info.class_name}/{info.name}"
    if "answer" in request.query:
        return Response(f"hook saw {seen}", status=418)
    if "replace" in request.query:
        return request.replace(headers={**request.headers, "x-replaced": seen})
    return None


CORS = {"Access-Control-Allow-Origin": "https://one.example", "X-Extra": "yes"}
ROUTES: dict[str, dict[str, Any]] = {
    "agents": {},
    "api/v2": {},
    "cors": {"cors": True},
    "cors-map": {"cors": CORS},
    "connect-hook": {"on_before_connect": hook},
    "request-hook": {"on_before_request": hook},
    "props": {"props": {"given": [1, "two"]}},
}


async def fetch(request: Request, env: Any) -> Response:
    """Route by prefix; `/me` is the instance that the query names."""
    for prefix, options in ROUTES.items():
        answer = await route_agent_request(request, env, prefix=prefix, **options)
        if answer is not None:
            return answer
    if request.path.startswith("/me"):
        stub = await get_agent_by_name(StateAgent, request.query["user"])
        return await stub.fetch(request)
    return Response("the application's own answer", status=404)
