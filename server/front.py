"""The front end: HTTP and WebSockets in, the application and its agents behind."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from agents import route_agent_request
from durable import Request, Response, current_env, must_await
from durable.objects.log_context import note_request
from server import asgi
from server.asgi import AsgiSocket, Receive, Scope, Send
from server.doors import kept_headers, origin_may_connect
from server.errors import response_to
from server.http import request_of, respond
from server.settings import Settings
from server.socket import ClientSocket, Outbox, close_all

if TYPE_CHECKING:
    from durable import Env
    from server.held_sockets import HeldSockets, LocalOwner

log = logging.getLogger(__name__)

Fetch = Callable[[Request, Any], Response | Awaitable[Response | None] | None]


# For the developer whose page it is.
ORIGIN_REFUSED = "This page's origin may not connect (allowed_origins)"

Socket = ClientSocket | AsgiSocket


def refused(text: str, status: int) -> web.Response:
    """The answer to a bad upgrade; the connection ends, whatever else is in it."""
    answer = web.Response(text=text, status=status)
    answer.force_close()
    return answer


class FrontEnd:
    """Holds every client socket of this node."""

    def __init__(
        self,
        settings: Settings,
        env: Env,
        fetch: Fetch | None,
        held: HeldSockets,
        local: LocalOwner,
    ) -> None:
        self._settings = settings
        self._env = env
        self._held = held
        self._local = local
        self._fetch: Fetch = fetch or route_agent_request
        self._sockets: set[Socket] = set()
        self._outbox = Outbox()
        self._draining = False

    def adopt(self, env: Env, fetch: Fetch | None) -> None:
        """Answer with a newer version of the application from now on."""
        self._env, self._fetch = env, fetch or route_agent_request

    @property
    def sockets(self) -> int:
        """How many client sockets are open."""
        return len(self._sockets)

    @property
    def is_draining(self) -> bool:
        """Whether it takes no more sockets."""
        return self._draining

    async def handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer one request with the application's fetch function."""
        answer = await self.answer(incoming, self._fetch)
        if answer is None:
            return web.Response(text="Not found", status=404)
        return answer

    async def answer(
        self, incoming: web.BaseRequest, fetch: Fetch
    ) -> web.StreamResponse | None:
        """Answer one request with a fetch function; None if that returned None."""
        if incoming.headers.get("Upgrade", "").lower() == "websocket":
            return await self._upgrade(incoming, fetch)
        response = await self._ask(self._maker(incoming), fetch, None)
        return None if response is None else await respond(incoming, response)

    async def answer_asgi(
        self, scope: Scope, receive: Receive, send: Send, fetch: Fetch
    ) -> bool:
        """Answer an ASGI request; False, untouched, if the function returned None."""
        limit, seconds = self._settings.max_body_bytes, self._settings.body_seconds
        if scope["type"] == "http":
            incoming = asgi.Incoming(scope, receive)
            make = partial(asgi.request_of, scope, incoming, limit, seconds)
            response = await self._ask(make, fetch, None)
            if response is not None:
                await asgi.respond(response, incoming, send)
            return response is not None
        make = partial(asgi.request_of, scope, receive, limit, seconds)
        asked = make().headers
        allowed = self._settings.allowed_origins
        if not origin_may_connect(asked.get("Origin"), asked.get("Host", ""), allowed):
            await receive()
            await asgi.refuse(Response(ORIGIN_REFUSED, status=403), scope, send)
            return True
        socket = AsgiSocket(self._settings.socket_buffer_bytes, self._held, self._local)
        response = await self._ask(make, fetch, socket)
        if response is None or response.status != 101:
            socket.ended()
            if response is not None:
                await receive()
                await asgi.refuse(response, scope, send)
            return response is not None
        self._sockets.add(socket)
        try:
            await receive()
            await socket.serve(receive, send)
        finally:
            self._sockets.discard(socket)
        return True

    async def ping_all(self) -> None:
        """Let middleboxes see that idle sockets are alive."""
        for socket in tuple(self._sockets):
            if isinstance(socket, ClientSocket):
                socket.ping()

    def drain(self) -> None:
        """Take no more sockets, and send the open ones elsewhere (1001)."""
        self._draining = True
        close_all(self._sockets, 1001, "The server is shutting down")

    def _maker(self, incoming: web.BaseRequest) -> Callable[[], Request]:
        settings = self._settings
        return partial(
            request_of, incoming, settings.max_body_bytes, settings.body_seconds
        )

    async def _ask(
        self, make: Callable[[], Request], fetch: Fetch, socket: Socket | None
    ) -> Response | None:
        token = current_env.set(self._env)
        path = "?"
        try:
            request = make()
            request.headers = kept_headers(request.headers)
            path = request.path
            note_request(request)
            request.socket_port = socket
            response = fetch(request, self._env)
            if must_await(response):
                response = await response
        except Exception as error:  # noqa: BLE001  # whatever the application raises
            return response_to(error, path, show=self._settings.show_errors)
        finally:
            current_env.reset(token)
        return response

    async def _upgrade(
        self, incoming: web.BaseRequest, fetch: Fetch
    ) -> web.StreamResponse | None:
        # A body would be taken for frames, or for the next request, by who thinks so.
        has_body = incoming.content_length or "Transfer-Encoding" in incoming.headers
        can = (
            incoming.method == "GET"
            and not has_body
            and web.WebSocketResponse().can_prepare(incoming)
        )
        if not can:
            return refused("Malformed WebSocket handshake", 400)
        if not origin_may_connect(
            incoming.headers.get("Origin"),
            incoming.headers.get("Host", ""),
            self._settings.allowed_origins,
        ):
            return refused(ORIGIN_REFUSED, 403)
        if self._draining or len(self._sockets) >= self._settings.max_sockets:
            return web.Response(
                text="Too many sockets", status=503, headers={"Retry-After": "1"}
            )
        socket = ClientSocket(
            self._settings.socket_buffer_bytes,
            self._outbox,
            self._held,
            self._local,
        )
        response = await self._ask(self._maker(incoming), fetch, socket)
        if response is not None and response.status == 101 and socket.held is None:
            log.error("101 without an accepted socket", extra={"path": incoming.path})
            response = Response("Internal Server Error", status=500)
        if response is None or response.status != 101:
            socket.discard()
            return None if response is None else await respond(incoming, response)
        del response
        self._sockets.add(socket)
        try:
            return await socket.serve(incoming, self._settings.max_message_bytes)
        finally:
            self._sockets.discard(socket)
