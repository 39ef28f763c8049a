"""``Agent``: hooks to override, and delegation to its capabilities."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from typing_extensions import TypeVar

from agents import protocol
from agents.callables import CallableOptions, Method, methods_of, refusal
from agents.connection import Connection, ConnectionContext
from agents.context import CurrentAgent, current
from agents.naming import kebab_case
from agents.state_sync import UNSET, StateSync
from agents.typed import StateCodec, state_codec, state_type_of
from durable import DurableObject, Frame, Request, Response, must_await

if TYPE_CHECKING:
    from durable import DurableObjectState, WebSocket

log = logging.getLogger(__name__)

Env = TypeVar("Env", default=Any)
State = TypeVar("State", default=Any)

SETUP_FAILED = "Uncaught exception during session setup"


class Agent(DurableObject, Generic[Env, State]):
    """A durable object with synced state, callable methods and client sockets.

    Hooks (``on_*``) may be plain or ``async``. ``initial_state`` is stored at the first
    look at ``state``; without one the state is None until it is set.
    """

    initial_state: Any = UNSET
    send_identity_on_connect: ClassVar[bool] = True

    _methods: ClassVar[dict[str, Method]] = {}
    _codec: ClassVar[StateCodec] = StateCodec()
    has_validation: ClassVar[bool] = False
    has_state_hook: ClassVar[bool] = False
    _plain_messages: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        kind = state_type_of(cls)
        if kind is not None:
            cls._codec = state_codec(kind)
        cls._methods = methods_of(cls)
        cls.has_validation = (
            cls.validate_state_change is not Agent.validate_state_change
        )
        newer = cls.on_state_changed is not Agent.on_state_changed
        older = cls.on_state_update is not Agent.on_state_update
        if newer and older:
            raise TypeError(
                f"{cls.__name__} overrides on_state_changed and on_state_update, "
                "which are two names of one hook: keep on_state_changed"
            )
        cls.has_state_hook = newer or older

    def __init__(self, ctx: DurableObjectState, env: Env) -> None:
        super().__init__(ctx, env)
        self.env: Env = env
        self._sync = StateSync(self, self._codec)
        if type(self).on_start is not Agent.on_start:
            ctx.block_concurrency_while(self._start)

    # --- hooks

    def on_start(self, props: Any = None) -> Any:
        """Runs once on each wake, before any event. It has 30 s."""

    def on_request(self, request: Request) -> Response | Awaitable[Response]:
        """Answer an HTTP request."""
        return Response("Not implemented", status=404)

    def on_connect(self, connection: Connection, ctx: ConnectionContext) -> Any:
        """A client connects; its messages wait until this has ended."""

    def on_message(self, connection: Connection, message: str | bytes) -> Any:
        """A client sent something that isn't of the agent protocol."""

    def on_close(
        self, connection: Connection, code: int, reason: str, was_clean: bool
    ) -> Any:
        """A client's socket has closed; 1006 if nobody said good-bye."""

    def on_error(self, error: Exception, connection: Connection | None = None) -> Any:
        """A hook raised. The default logs; for requests, raising goes on to a 500."""
        log.error(
            "agent hook failed",
            exc_info=error,
            extra={
                "agent": type(self).__name__,
                "connection": connection.id if connection else None,
            },
        )
        raise error

    def validate_state_change(self, next_state: State, source: Any) -> None:
        """Raise to refuse a change; ``source`` is ``"server"`` or a Connection."""

    def on_state_changed(self, state: State, source: Any) -> Any:
        """The state has changed, and clients were told."""

    def on_state_update(self, state: State, source: Any) -> Any:
        """The older name of ``on_state_changed``."""

    def get_connection_tags(
        self, connection: Connection, ctx: ConnectionContext
    ) -> Iterable[str]:
        """Up to 9 tags for a new connection, each up to 256 characters."""
        return ()

    def should_connection_be_readonly(
        self, connection: Connection, ctx: ConnectionContext
    ) -> bool:
        """Whether a new connection may not change the state."""
        return False

    def should_send_protocol_messages(
        self, connection: Connection, ctx: ConnectionContext
    ) -> bool:
        """Whether a new connection gets identity, state and MCP frames."""
        return True

    # --- for the agent's own code

    @property
    def name(self) -> str:
        """The name this instance was asked for; its id's text if it has none."""
        return self.ctx.id.name or str(self.ctx.id)

    @property
    def state(self) -> State:
        """The state, as Postgres has it or will with the next commit."""
        state: State = self._sync.get()
        return state

    def set_state(self, state: State) -> None:
        """Replace the state: store it, and send it to every client.

        Raises:
            ValueRefused: it isn't JSON; the message has the path of the bad value.
        """
        self._sync.set(state)

    async def sql(self, statement: Any, *params: object) -> list[dict[str, Any]]:
        """Run a statement in this agent's own Postgres schema; returns its rows.

        ``$1``, ``$2`` … in the statement are the parameters. What was written before is
        committed with it.

        Raises:
            SqlError: with the statement and the position.
        """
        result = await self.ctx.storage.sql(statement, params)
        rows: list[dict[str, Any]] = result.rows
        return rows

    def get_connections(self, tag: str | None = None) -> list[Connection]:
        """The open connections, or those with a tag."""
        return [self._connection(ws) for ws in self.ctx.get_websockets(tag)]

    def get_connection(self, connection_id: str) -> Connection | None:
        """The connection with this id, None if there is none.

        Raises:
            LookupError: a client is reconnecting, and two have the id right now.
        """
        found = [c for c in self.get_connections() if c.id == connection_id]
        if len(found) > 1:
            raise LookupError(f"more than one connection has the id {connection_id!r}")
        return found[0] if found else None

    def broadcast(self, message: str | bytes, without: Sequence[str] = ()) -> None:
        """Send to all connections but those whose ids are in ``without``."""
        if isinstance(message, str):
            frame = Frame(message.encode("utf-8", "replace"))
        else:
            frame = Frame(bytes(message), text=False)
        sockets = self.ctx.get_websockets()
        if without:
            sockets = [ws for ws in sockets if ws.id not in without]
        self.ctx.send_frame(frame, sockets)

    def set_connection_readonly(
        self, connection: Connection, readonly: bool = True
    ) -> None:
        """Keep a connection from changing the state, or let it again."""
        connection.mark(readonly=readonly)

    def is_connection_readonly(self, connection: Connection) -> bool:
        """Whether a connection may not change the state."""
        return connection.is_readonly

    def is_connection_protocol_enabled(self, connection: Connection) -> bool:
        """Whether a connection gets identity, state and MCP frames."""
        return connection.hears_protocol

    def get_callable_methods(self) -> dict[str, CallableOptions]:
        """What clients may call: name → ``description`` and ``streaming``."""
        return {name: method.options for name, method in self._methods.items()}

    async def destroy(self) -> None:
        """Delete all that is stored, close every socket (1001), end this instance."""
        await self.ctx.storage.delete_all()
        for websocket in self.ctx.get_websockets():
            websocket.close(1001, "Durable Object destroyed")
        await self.ctx.storage.sync()
        self.ctx.end_when_idle()

    # --- events, from the durable floor

    async def fetch(self, request: Request) -> Response:
        """Deliver a request: an upgrade connects, everything else is ``on_request``."""
        token = current.set(CurrentAgent(self, None, request))
        try:
            if request.socket_port is not None:
                return await self._connect(request)
            try:
                response = self.on_request(request)
                if must_await(response):
                    response = await response
            except Exception as error:  # noqa: BLE001  # the user's hook
                await self._on_error(error, None)
                return Response("Internal Server Error", status=500)
            if not isinstance(response, Response):
                raise TypeError(
                    f"{type(self).__name__}.on_request returned "
                    f"{type(response).__name__}, not a Response"
                )
            return response
        finally:
            current.reset(token)

    def websocket_message(self, websocket: WebSocket, message: str | bytes) -> Any:
        """Deliver a message: a call, a state change, or the application's own."""
        connection = self._connection(websocket)
        token = current.set(connection.current)
        try:
            frame = protocol.parse(message) if isinstance(message, str) else None
            if frame is not None:
                if protocol.is_call(frame):
                    return self._called(connection, frame)
                if frame.get("type") == protocol.STATE and "state" in frame:
                    self._sync.from_client(connection, frame["state"])
                    return None
            return self._received(connection, message)
        finally:
            current.reset(token)

    def websocket_close(
        self, websocket: WebSocket, code: int, reason: str, was_clean: bool
    ) -> Any:
        """Deliver the end of a connection."""
        connection = self._connection(websocket)
        return self._guarded(
            connection, lambda: self.on_close(connection, code, reason, was_clean)
        )

    def call_method(self, method: str, args: Sequence[Any], kwargs: Any) -> Any:
        """Deliver another object's call."""
        token = current.set(CurrentAgent(self, None, None))
        try:
            result = super().call_method(method, args, kwargs)
        finally:
            current.reset(token)
        if must_await(result):
            return self._as_me(result)
        return result

    # --- for the capabilities

    async def run_hook(self, hook: Callable[..., Any], *args: Any) -> Any:
        """Call a plain or async hook."""
        result = hook(*args)
        return await result if must_await(result) else result

    async def report(
        self, error: Exception, connection: Connection | None = None
    ) -> None:
        """Tell ``on_error``; what that raises ends in the log."""
        try:
            await self._on_error(error, connection)
        except Exception as raised:  # the user's hook
            if raised is not error:
                log.exception("on_error failed")

    @property
    def state_hook(self) -> Callable[..., Any]:
        """``on_state_changed``, under the name that the class uses."""
        if type(self).on_state_changed is not Agent.on_state_changed:
            return self.on_state_changed
        return self.on_state_update

    def send_protocol(self, frame: Frame, without: Connection | None) -> None:
        """Send a protocol frame to all that hear the protocol, but one."""
        skipped = None if without is None else without.websocket
        sockets = [
            ws
            for ws in self.ctx.get_websockets()
            if ws is not skipped and self._connection(ws).hears_protocol
        ]
        if sockets:
            self.ctx.send_frame(frame, sockets)

    # --- inside

    async def _start(self) -> None:
        token = current.set(CurrentAgent(self, None, None))
        try:
            hook = self.on_start
            if inspect.signature(hook).parameters:
                await self.run_hook(hook, self.ctx.props)
            else:
                await self.run_hook(hook)
        finally:
            current.reset(token)

    async def _connect(self, request: Request) -> Response:
        websocket = self.ctx.accept_websocket(request, id=request.query.get("_pk"))
        connection = self._connection(websocket)
        ctx = ConnectionContext(request)
        token = current.set(CurrentAgent(self, connection, request))
        try:
            websocket.add_tags(
                [connection.id, *self.get_connection_tags(connection, ctx)]
            )
            connection.mark(
                readonly=self.should_connection_be_readonly(connection, ctx),
                silent=not self.should_send_protocol_messages(connection, ctx),
            )
            self._greet(connection)
            await self.run_hook(self.on_connect, connection, ctx)
        except Exception as error:  # noqa: BLE001  # the user's hooks
            await self.report(error, connection)
            websocket.take_back()
            connection.send_frame(Frame(protocol.setup_error(str(error))))
            connection.close(1011, SETUP_FAILED)
        finally:
            current.reset(token)
        return Response.upgrade(websocket)

    def _greet(self, connection: Connection) -> None:
        if not connection.hears_protocol:
            return
        state = self._sync.frame()
        if self.send_identity_on_connect:
            agent = kebab_case(type(self).__name__)
            greeting = protocol.identity(
                self.name, agent, state_follows=state is not None
            )
            connection.send_frame(Frame(greeting))
        if state is not None:
            connection.send_frame(state)
        connection.send_frame(Frame(protocol.NO_MCP_SERVERS))

    def _connection(self, websocket: WebSocket) -> Connection:
        found: Connection | None = websocket.companion
        if found is None:
            found = websocket.companion = Connection(websocket, self)
        return found

    def _called(self, connection: Connection, frame: dict[str, Any]) -> Any:
        method = self._methods.get(frame["method"])
        if method is None:
            text = refusal(self, frame["method"])
            connection.send_frame(Frame(protocol.rpc_error(frame["id"], text)))
            return None
        result = method.call(self, connection, frame["id"], frame["args"])
        return None if result is None else self._as(connection.current, result)

    def _received(self, connection: Connection, message: str | bytes) -> Any:
        try:
            result = self.on_message(connection, message)
        except Exception as error:  # noqa: BLE001  # the user's hook
            return self.report(error, connection)
        if must_await(result):
            return self._guarded(connection, lambda: result)
        return None

    async def _guarded(self, connection: Connection, hook: Callable[[], Any]) -> None:
        token = current.set(connection.current)
        try:
            await self.run_hook(hook)
        except Exception as error:  # noqa: BLE001  # the user's hook
            await self.report(error, connection)
        finally:
            current.reset(token)

    async def _as(self, who: CurrentAgent, work: Awaitable[Any]) -> Any:
        token = current.set(who)
        try:
            return await work
        finally:
            current.reset(token)

    def _as_me(self, work: Awaitable[Any]) -> Any:
        return self._as(CurrentAgent(self, None, None), work)

    async def _on_error(self, error: Exception, connection: Connection | None) -> None:
        hook = self.on_error
        names = list(inspect.signature(hook).parameters)
        if names and names[0] == "connection":
            # Cloudflare's order.
            await self.run_hook(hook, connection, error)
        elif len(names) == 1:
            await self.run_hook(hook, error)
        else:
            await self.run_hook(hook, error, connection)
