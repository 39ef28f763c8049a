"""One node: a runtime behind a listening socket, until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from typing import Any

from aiohttp import web

from server.runtime import Runtime
from server.settings import Settings
from server.user_module import UserModule

# A peer that doesn't acknowledge for so long is gone; the kernel finds out.
PEER_SECONDS = 30


async def run_node(settings: Settings, module: UserModule) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends at once.

    Raises:
        OSError: the address can't be listened on.
    """
    _calm_collector()
    listening = _listen(settings.host, settings.port)
    stop = _on_signals()
    fetch = module.app if module.kind == "fetch" else None
    async with Runtime(settings, module.classes, fetch) as runtime:
        handler = await _handler(runtime, module)
        runner = web.ServerRunner(web.Server(handler, access_log=None))
        await runner.setup()
        try:
            await web.SockSite(runner, listening, backlog=4096).start()
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGUSR1, _print_counts, runtime
            )
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"Ready on http://{shown}:{port}", flush=True)  # noqa: T201
            await stop.wait()
        finally:
            await runner.shutdown()
            runtime.front.drain()
            listening.close()
            await runner.cleanup()


async def _handler(runtime: Runtime, module: UserModule) -> Any:
    if module.kind in (None, "fetch"):
        return runtime.front.handle
    from server.mount import aiohttp_handler, asgi_handler

    make = aiohttp_handler if module.kind == "aiohttp" else asgi_handler
    return await make(runtime, module.app)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted sockets inherit these on Linux.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_SECONDS * 1000
        )
    listening.bind((host, port))
    return listening


def _calm_collector() -> None:
    # Per-message garbage dies by reference counts; frequent full collections over
    # thousands of live objects cost a third of the CPU (profiled) and free nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            # Asked twice: what is durable is durable, the rest is not waited for.
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    return stop


def _print_counts(runtime: Runtime) -> None:
    print(json.dumps(runtime.counts()), file=sys.stderr, flush=True)  # noqa: T201
