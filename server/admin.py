"""The admin port: health, readiness, metrics. Never on the public port.

Promise: it answers from before the node is ready until after it has drained, so that
whoever asks sees the drain; ``/metrics`` only with the token, if there is one.
"""

from __future__ import annotations

import hmac
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from aiohttp import web

from server.metrics import LoopLag, generate_latest, registry_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from server.runtime import Runtime
    from server.settings import Settings

log = logging.getLogger(__name__)

TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Admin:
    """Opened before the node is, and closed after it; nothing without a port."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runtime: Runtime | None = None
        self._registry: CollectorRegistry | None = None
        self._lag = LoopLag()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Admin:
        """Listen.

        Raises:
            OSError: the address can't be listened on.
        """
        settings = self._settings
        if settings.admin_port is None:
            return self
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics),
            ]
        )
        runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=settings.idle_connection_seconds,
            shutdown_timeout=0,
        )
        async with AsyncExitStack() as stack:
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, settings.admin_host, settings.admin_port).start()
            self._stack = stack.pop_all()
        self._lag.start()
        host, port = runner.addresses[0][:2]
        shown = f"[{host}]" if ":" in host else host
        log.info("health and metrics are on http://%s:%s", shown, port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._lag.stop()
        await self._stack.aclose()

    def watch(self, runtime: Runtime) -> None:
        """This is the node; it has started."""
        self._runtime = runtime
        self._registry = registry_of(runtime, self._lag)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        why = "starting" if self._runtime is None else self._runtime.unready()
        if why:
            return web.Response(text=f"{why}\n", status=503)
        return web.Response(text="ready\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        token = self._settings.admin_token
        if token is not None:
            given = request.headers.get("Authorization", "")
            # Compared as bytes: a header may hold any character.
            if not hmac.compare_digest(
                given.encode("utf-8", "surrogateescape"), f"Bearer {token}".encode()
            ):
                return web.Response(
                    status=401,
                    text="Unauthorized\n",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        body = b"" if self._registry is None else generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": TEXT})
