"""Requests and responses in the manner of fetch, streamed both ways."""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from typing import TYPE_CHECKING, Any, Protocol, overload
from urllib.parse import parse_qsl, quote, unquote

import orjson
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiMapping

from durable.domain.errors import DurableError
from durable.objects import json_text

if TYPE_CHECKING:
    from durable.domain.ports import SocketPort
    from durable.objects.websocket import WebSocket

HeadersLike = MultiMapping[str] | Mapping[str, str] | Iterable[tuple[str, str]] | None
BodyLike = str | bytes | bytearray | AsyncIterable[str | bytes] | None
JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain;charset=UTF-8"


class BodyUsed(DurableError, TypeError):
    """A streamed body can be read once."""


class BodyTooLarge(DurableError):
    """A request's body is larger than the setting ``max_body_bytes`` allows."""


class BodyTooSlow(DurableError):
    """A request's body took longer than the setting ``body_seconds`` allows."""


class _Body:
    """What Request and Response share: a body that is there, or one that streams."""

    __slots__ = ("_content", "_used", "headers")

    headers: MultiMapping[str]

    def __init__(self, content: BodyLike) -> None:
        self._content: bytes | AsyncIterable[str | bytes] | None
        if isinstance(content, str):
            self._content = content.encode()
        elif isinstance(content, bytearray):
            self._content = bytes(content)
        else:
            self._content = content
        self._used = False

    @property
    def content(self) -> bytes | AsyncIterable[str | bytes] | None:
        """The body as it was given: bytes, a stream, or None."""
        return self._content

    @property
    def body(self) -> AsyncIterator[bytes]:
        """The body in pieces, as they come; reading waits, so a slow reader slows."""
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        content = self._content
        if content is None:
            return
        if isinstance(content, bytes):
            yield content
            return
        if self._used:
            raise BodyUsed("this body has been read already")
        self._used = True
        try:
            async for piece in content:
                yield piece.encode() if isinstance(piece, str) else piece
        finally:
            await aclose(content)

    async def bytes(self) -> bytes:
        """The whole body."""
        if isinstance(self._content, bytes):
            return self._content
        if self._content is None:
            return b""
        self._content = b"".join([piece async for piece in self._pieces()])
        return self._content

    async def text(self) -> str:
        """The whole body as UTF-8; what isn't becomes U+FFFD, as in fetch."""
        return (await self.bytes()).decode("utf-8", "replace")

    async def _read_json(self) -> Any:
        return orjson.loads(await self.bytes())

    async def form(self) -> MultiDict[str]:
        """The fields of an ``application/x-www-form-urlencoded`` body.

        Raises:
            ValueError: the body has another content type.
        """
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise ValueError(f"not a URL-encoded form: Content-Type is {kind!r}")
        return MultiDict(parse_qsl(await self.text(), keep_blank_values=True))


# Who a request is from, as `authorize` found out. Front ends drop it from what clients
# send. As a header it reaches the owner, and stays with the socket wherever that goes.
IDENTITY_HEADER = "X-Durable-Identity"


# Not escaped in that header: what makes a short JSON text readable in logs.
_PLAIN = ' {}[]":,'


def identity_of(headers: MultiMapping[str]) -> Any:
    """Who ``authorize`` found the sender of these headers to be: JSON, or None."""
    text = headers.get(IDENTITY_HEADER)
    return None if text is None else json_text.loads(unquote(text))


class Request(_Body):
    """An HTTP request, or the upgrade request of a WebSocket.

    ``url`` is the whole URL, ``path`` its raw path: percent-encoding is left alone,
    because an agent's name is the raw segment.
    """

    __slots__ = ("_path", "_query", "_url", "method", "socket_port")

    def __init__(
        self,
        method: str,
        url: str,
        *,
        headers: HeadersLike = None,
        body: BodyLike = None,
        json: Any = None,
    ) -> None:
        if json is not None:
            body = orjson.dumps(json)
        super().__init__(body)
        self.method = method.upper()
        self._url = url
        self._path: str | None = None
        self._query: MultiDict[str] | None = None
        # The front end's end of the socket, on an upgrade request.
        self.socket_port: SocketPort | None = None
        if isinstance(headers, CIMultiDictProxy):
            self.headers = headers
        else:
            self.headers = CIMultiDict(headers or ())
        if json is not None and "Content-Type" not in self.headers:
            self.headers = CIMultiDict(
                [*self.headers.items(), ("Content-Type", JSON_TYPE)]
            )

    def __repr__(self) -> str:
        return f"Request({self.method!r}, {self._url!r})"

    async def json(self) -> Any:
        """The whole body as JSON.

        Raises:
            ValueError: it isn't JSON.
        """
        return await self._read_json()

    @property
    def url(self) -> str:
        """The whole URL, as the client sent it."""
        return self._url

    @property
    def path(self) -> str:
        """The raw path, not percent-decoded, without the query."""
        if self._path is None:
            _, _, rest = self._url.partition("://")
            slash = (rest or self._url).find("/")
            path = (rest or self._url)[slash:] if slash >= 0 else "/"
            self._path = path.partition("#")[0].partition("?")[0]
        return self._path

    @property
    def query(self) -> MultiDict[str]:
        """The query's parameters, decoded."""
        if self._query is None:
            text = self._url.partition("#")[0].partition("?")[2]
            self._query = MultiDict(parse_qsl(text, keep_blank_values=True))
        return self._query

    @property
    def identity(self) -> Any:
        """What ``authorize`` returned for this request: JSON, or None."""
        return identity_of(self.headers)

    def identify(self, identity: Any) -> None:
        """Say who this is from, for whoever gets it next.

        Raises:
            ValueRefused: it isn't JSON.
        """
        text = json_text.dumps(identity, "identity").decode()
        kept = CIMultiDict(self.headers)
        kept[IDENTITY_HEADER] = quote(text, safe=_PLAIN)
        self.headers = kept

    @property
    def is_upgrade(self) -> bool:
        """Whether this asks for a WebSocket."""
        return self.headers.get("Upgrade", "").lower() == "websocket"

    def replace(
        self,
        *,
        url: str | None = None,
        method: str | None = None,
        headers: HeadersLike = None,
    ) -> Request:
        """A copy with another URL, method or headers; the body moves along."""
        copy = Request(
            method or self.method,
            url or self._url,
            headers=self.headers if headers is None else headers,
        )
        copy._content = self._content
        copy.socket_port = self.socket_port
        return copy


class _Json:
    """``Response.json(value)`` makes one, ``await response.json()`` reads one."""

    @overload
    def __get__(self, response: None, owner: type[Response]) -> _MakeJson: ...
    @overload
    def __get__(
        self, response: Response, owner: type[Response]
    ) -> Callable[[], Coroutine[Any, Any, Any]]: ...
    def __get__(self, response: Response | None, owner: type[Response]) -> Any:
        return _json_response if response is None else response._read_json  # noqa: SLF001


class _MakeJson(Protocol):
    def __call__(
        self, value: Any, *, status: int = 200, headers: HeadersLike = None
    ) -> Response: ...


class Response(_Body):
    """An HTTP response. ``body`` is text, bytes, an async iterator of either, or None.

    ``Response.json(value, status=…, headers=…)`` answers with a value as JSON.
    """

    __slots__ = ("status", "websocket")

    json = _Json()

    headers: CIMultiDict[str]

    def __init__(
        self,
        body: BodyLike = None,
        *,
        status: int = 200,
        headers: HeadersLike = None,
        websocket: WebSocket | None = None,
    ) -> None:
        if isinstance(body, AsyncIterable) or body is None:
            default_type = None
        elif isinstance(body, str):
            default_type = TEXT_TYPE
        elif isinstance(body, (bytes, bytearray)):
            default_type = None
        else:
            raise TypeError(
                "a response's body is str, bytes or an async iterator, not "
                f"{type(body).__name__}; Response.json(...) sends a value as JSON"
            )
        super().__init__(body)
        self.status = status
        self.websocket = websocket
        self.headers = CIMultiDict(headers or ())
        if default_type is not None and "Content-Type" not in self.headers:
            self.headers["Content-Type"] = default_type

    def __repr__(self) -> str:
        return f"Response(status={self.status})"

    def with_body(self, body: BodyLike) -> Response:
        """The same response with another body."""
        return Response(
            body, status=self.status, headers=self.headers, websocket=self.websocket
        )

    @property
    def ok(self) -> bool:
        """Whether the status is 200 to 299."""
        return 200 <= self.status < 300

    @classmethod
    def redirect(cls, url: str, status: int = 302) -> Response:
        """Send the client elsewhere."""
        return cls(None, status=status, headers={"Location": url})

    @classmethod
    def upgrade(cls, websocket: WebSocket) -> Response:
        """Accept an upgrade with the socket that ``ctx.accept_websocket`` returned."""
        return cls(None, status=101, websocket=websocket)


def _json_response(
    value: Any, *, status: int = 200, headers: HeadersLike = None
) -> Response:
    response = Response(json_text.dumps(value), status=status, headers=headers)
    response.headers.setdefault("Content-Type", JSON_TYPE)
    return response


async def aclose(pieces: AsyncIterable[Any]) -> None:
    """Let what was streamed clean up behind itself."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()
