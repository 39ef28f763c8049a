"""aiohttp's requests and responses ↔ ours, streamed both ways with backpressure."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from durable import BodyTooLarge, BodyTooSlow, Request, Response
from server.whole import HOP_BY_HOP, MAX_BYTES, WholeResponse

log = logging.getLogger(__name__)

# A body that takes longer than it may must bring so many bytes a second.
FLOOR_BYTES = 1024
_BODILESS = (204, 304)
_HOST = re.compile(r"[\w.:\[\]%~-]+")


class _StreamFailed(Exception):
    """A body raised after its head was sent: all that is left is to hang up."""


def request_of(
    incoming: web.BaseRequest, max_body: int, body_seconds: float
) -> Request:
    """Our view of a request; the body is read when somebody asks for it.

    Raises:
        BodyTooLarge: it says itself that it is over ``max_body`` bytes.
    """
    path = incoming.raw_path
    if path.startswith("/"):
        host = host_of(incoming.headers)
        url = f"{incoming.scheme}://{host}{path}"
    else:
        # The absolute form, as proxies are asked.
        url = path
    if not incoming.can_read_body:
        return Request(incoming.method, url, headers=incoming.headers)
    declared = incoming.content_length
    if declared is not None and declared > max_body:
        raise BodyTooLarge(f"the body is over {max_body} bytes (max_body_bytes)")
    return Request(
        incoming.method,
        url,
        headers=incoming.headers,
        body=limited(incoming.content.iter_any(), max_body, body_seconds),
    )


def host_of(headers: Mapping[str, str]) -> str:
    """The Host header, if it is one: with a slash in it, it would choose the route."""
    host = headers.get("Host", "")
    return host if _HOST.fullmatch(host) else "localhost"


async def limited(
    pieces: AsyncIterator[bytes], limit: int, seconds: float
) -> AsyncIterator[bytes]:
    """A body within its size, and no slower than a floor.

    The time counts while the body is awaited; what its reader does meanwhile doesn't.
    """
    received, waited = 0, 0.0
    clock = asyncio.get_running_loop().time
    while True:
        began = clock()
        try:
            async with asyncio.timeout(seconds + received / FLOOR_BYTES - waited):
                piece = await anext(pieces, b"")
        except TimeoutError:
            raise BodyTooSlow(
                f"the body took over {seconds:g} s (body_seconds)"
            ) from None
        if not piece:
            return
        waited += clock() - began
        received += len(piece)
        if received > limit:
            raise BodyTooLarge(f"the body is over {limit} bytes (max_body_bytes)")
        yield piece


async def respond(incoming: web.BaseRequest, response: Response) -> web.StreamResponse:
    """Send our response; a streamed body goes as fast as the client reads."""
    content = response.content
    if content is None or (isinstance(content, bytes) and len(content) <= MAX_BYTES):
        return WholeResponse(response, content or b"")
    if isinstance(content, bytes):
        answer = web.Response(body=content, status=response.status)
        _copy_headers(response, answer)
        return answer
    streamed = web.StreamResponse(status=response.status)
    _copy_headers(response, streamed)
    pieces = response.body
    try:
        await streamed.prepare(incoming)
        if incoming.method != "HEAD" and response.status not in _BODILESS:
            async for piece in pieces:
                await streamed.write(piece)
        await streamed.write_eof()
    except (ConnectionError, BadHttpMessage):
        # The client has gone; the body's generator is told by being closed.
        log.debug("client left in mid-stream")
    except asyncio.CancelledError:
        _hang_up(incoming)
        raise
    except Exception:
        log.exception("streamed body failed", extra={"path": incoming.path})
        _hang_up(incoming)
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
    return streamed


def _hang_up(incoming: web.BaseRequest) -> None:
    # Without the closing chunk the client can tell that the body is not whole.
    if incoming.transport is not None:
        incoming.transport.close()


def _copy_headers(response: Response, answer: web.StreamResponse) -> None:
    for name, value in response.headers.items():
        if name.lower() not in HOP_BY_HOP:
            answer.headers.add(name, value)
