"""A response whose body is there: head and body leave in one write.

aiohttp's own Response copies headers and asks each of a dozen questions again; of a
small request that was a fifth of our CPU (profiled). Large and streamed bodies take
aiohttp's way, which waits for slow readers.
"""

from __future__ import annotations

import http
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter

if TYPE_CHECKING:
    from durable import Response

# Beyond so many bytes a client may be too slow to take all at once.
MAX_BYTES = 32_768
_REASONS = {status.value: status.phrase for status in http.HTTPStatus}
# What belongs to one hop of the connection, and is the server's to write.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class _Date:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def __call__(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


_date = _Date()


class WholeResponse(web.StreamResponse):
    """Our response as aiohttp's server wants it."""

    def __init__(self, response: Response, body: bytes) -> None:
        super().__init__(status=response.status)
        self._response = response
        self._whole = body
        self._written = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write all of it."""
        if self._written:
            return None
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        self._written = True
        self._keep_alive = request.keep_alive
        wire = self._head(request)
        has_body = request.method != "HEAD" and self.status not in (204, 304)
        transport.write(wire + self._whole if has_body else wire)
        if transport.get_write_buffer_size() > MAX_BYTES:
            # A client that asks on and on without reading waits for itself.
            await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""

    def _head(self, request: web.BaseRequest) -> bytes:
        response = self._response
        old = request.version == HttpVersion10
        reason = _REASONS.get(response.status, "")
        lines = [f"HTTP/{'1.0' if old else '1.1'} {response.status} {reason}"]
        named = False
        for name, value in response.headers.items():
            lowered = name.lower()
            if lowered in HOP_BY_HOP:
                continue
            named = named or lowered == "content-type"
            line = f"{name}: {value}"
            if "\r" in line or "\n" in line or "\0" in line:
                raise ValueError(f"header {name!r} must be one line")
            lines.append(line)
        if self._whole and not named:
            lines.append("Content-Type: application/octet-stream")
        if response.status not in (204, 304):
            lines.append(f"Content-Length: {len(self._whole)}")
        lines.append(f"Date: {_date()}")
        if old and self._keep_alive:
            lines.append("Connection: keep-alive")
        elif not old and not self._keep_alive:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")
