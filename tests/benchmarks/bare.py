"""The ceiling: a bare aiohttp server on uvloop that touches no database.

It answers the generator's URLs with a constant and echoes WebSocket text. Whatever
our node does for a request, it can't be faster than this in one Python process.
"""

from __future__ import annotations

import uvloop
from aiohttp import WSMsgType, web

from tests.benchmarks.reference import serve


async def answer(request: web.Request) -> web.StreamResponse:
    """Echo on a WebSocket, answer a constant on plain HTTP."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return web.Response(body=b'{"count":0}', content_type="application/json")
    websocket = web.WebSocketResponse(compress=False)
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is WSMsgType.TEXT:
            await websocket.send_str(message.data)
    return websocket


async def main() -> None:
    """Serve until the process is told to stop."""
    app = web.Application()
    app.router.add_route("*", "/agents/{class}/{name}", answer)
    await serve(app)


if __name__ == "__main__":
    uvloop.run(main())
