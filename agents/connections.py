"""An agent's connections: how they begin, what they say, how they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agents import protocol
from agents.callables import Method, refusal
from agents.connection import Connection, ConnectionContext
from agents.context import CurrentAgent, awaited_as, current
from agents.naming import kebab_case
from durable import Frame, Request, Response, must_await

if TYPE_CHECKING:
    from agents.agent import Agent
    from durable import WebSocket

SETUP_FAILED = "Uncaught exception during session setup"


class Connections:
    """The connections of one agent, and the agent protocol on them."""

    __slots__ = ("_agent", "_methods")

    def __init__(self, agent: Agent[Any, Any], methods: Mapping[str, Method]) -> None:
        self._agent = agent
        self._methods = methods

    def all(self, tag: str | None = None) -> list[Connection]:
        """The open connections, or those with a tag."""
        return [self.of(ws) for ws in self._agent.ctx.get_websockets(tag)]

    def send_protocol(self, frame: Frame, without: Connection | None) -> None:
        """Send a protocol frame to all that hear the protocol, but one."""
        ctx = self._agent.ctx
        skipped = None if without is None else without.websocket
        sockets = [
            ws
            for ws in ctx.get_websockets()
            if ws is not skipped and self.of(ws).hears_protocol
        ]
        if sockets:
            ctx.send_frame(frame, sockets)

    def message(self, websocket: WebSocket, message: str | bytes) -> Any:
        """Deliver a message: a call, a state change, or the application's own."""
        connection = self.of(websocket)
        token = current.set(connection.current)
        try:
            frame = protocol.parse(message) if isinstance(message, str) else None
            if frame is not None:
                if protocol.is_call(frame):
                    return self._called(connection, frame)
                kind = frame.get("type")
                if kind == protocol.STATE and "state" in frame:
                    self._agent.sync.from_client(connection, frame["state"])
                    return None
                if isinstance(kind, str) and kind in self._agent.frame_types:
                    take = self._agent.frame_types[kind]
                    return self._taken(connection, take, frame)
            return self._received(connection, message)
        finally:
            current.reset(token)

    def closed(
        self, websocket: WebSocket, code: int, reason: str, was_clean: bool
    ) -> Any:
        """Deliver the end of a connection."""
        connection = self.of(websocket)
        hook = self._agent.on_close
        return self._guarded(
            connection, lambda: hook(connection, code, reason, was_clean)
        )

    def restored(self, websocket: WebSocket) -> None:
        """Tell a client the state of now: the last frame of it may be lost."""
        connection = self.of(websocket)
        state = self._agent.sync.frame()
        if state is not None and connection.hears_protocol:
            connection.send_frame(state)

    async def connect(self, request: Request) -> Response:
        """Accept an upgrade: greet the client, then let the agent."""
        agent = self._agent
        websocket = agent.ctx.accept_websocket(request, id=request.query.get("_pk"))
        connection = self.of(websocket)
        ctx = ConnectionContext(request)
        token = current.set(CurrentAgent(agent, connection, request))
        try:
            websocket.add_tags(
                [connection.id, *agent.get_connection_tags(connection, ctx)]
            )
            connection.mark(
                readonly=agent.should_connection_be_readonly(connection, ctx),
                silent=not agent.should_send_protocol_messages(connection, ctx),
            )
            agent.before_greeting(connection)
            self._greet(connection)
            await agent.run_hook(agent.on_connect, connection, ctx)
        except Exception as error:  # noqa: BLE001  # the user's hooks
            await agent.report(error, connection)
            websocket.take_back()
            connection.send_frame(Frame(protocol.setup_error(str(error))))
            connection.close(1011, SETUP_FAILED)
        finally:
            current.reset(token)
        return Response.upgrade(websocket)

    def _greet(self, connection: Connection) -> None:
        if not connection.hears_protocol:
            return
        agent = self._agent
        state = agent.sync.frame()
        if agent.send_identity_on_connect:
            greeting = protocol.identity(
                agent.name,
                kebab_case(type(agent).__name__),
                state_follows=state is not None,
            )
            connection.send_frame(Frame(greeting))
        if state is not None:
            connection.send_frame(state)
        connection.send_frame(Frame(protocol.NO_MCP_SERVERS))

    def of(self, websocket: WebSocket) -> Connection:
        """A socket as the agent sees it."""
        found: Connection | None = websocket.companion
        if found is None:
            found = websocket.companion = Connection(websocket, self._agent)
        return found

    def _called(self, connection: Connection, frame: dict[str, Any]) -> Any:
        method = self._methods.get(frame["method"])
        if method is None:
            text = refusal(self._agent, frame["method"])
            connection.send_frame(Frame(protocol.rpc_error(frame["id"], text)))
            return None
        result = method.call(self._agent, connection, frame["id"], frame["args"])
        return None if result is None else awaited_as(connection.current, result)

    def _taken(
        self, connection: Connection, take: Callable[..., Any], frame: dict[str, Any]
    ) -> Any:
        """Hand a frame to a subclass whose protocol it is of."""
        try:
            result = take(connection, frame)
        except Exception as error:  # noqa: BLE001  # what it calls may be the user's
            return self._agent.report(error, connection)
        return self._guarded(connection, lambda: result) if must_await(result) else None

    def _received(self, connection: Connection, message: str | bytes) -> Any:
        try:
            result = self._agent.on_message(connection, message)
        except Exception as error:  # noqa: BLE001  # the user's hook
            return self._agent.report(error, connection)
        if must_await(result):
            return self._guarded(connection, lambda: result)
        return None

    async def _guarded(self, connection: Connection, hook: Callable[[], Any]) -> None:
        token = current.set(connection.current)
        try:
            await self._agent.run_hook(hook)
        except Exception as error:  # noqa: BLE001  # the user's hook
            await self._agent.report(error, connection)
        finally:
            current.reset(token)
