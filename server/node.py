"""One node: a runtime behind a listening socket, until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from server.admin import Admin
from server.config_reader import ConfigError
from server.runtime import Runtime
from server.settings import Settings
from server.supervised import Starter, Terminal
from server.user_module import UserModule, UserModuleError

log = logging.getLogger(__name__)

# A peer that doesn't acknowledge for so long is gone; the kernel finds out.
PEER_SECONDS = 30
BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class _Outside:
    """Where clients come in, when it ends, and who is told that it has begun."""

    listening: socket.socket
    stop: asyncio.Event
    starter: Starter

    def say_ready(self) -> None:
        host, port = self.listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self.starter.ready(f"Ready on http://{shown}:{port}")


async def run_node(
    settings: Settings,
    module: UserModule,
    starter: Starter | None = None,
    load: Callable[[], UserModule] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends at once.

    ``starter`` hears when the node serves; without it standard output does. ``load``
    gives a newer version of the module, when the starter says that there is one.

    Raises:
        OSError: the address can't be listened on.
    """
    calm_collector()
    starter = starter or Terminal()
    public = settings.role != "worker"
    listening = _listen(settings, shared=starter.shares_port) if public else None
    stop = _on_signals()
    newer = asyncio.Event()
    starter.watch(stop.set, lambda _: newer.set())
    fetch = module.app if module.kind == "fetch" else None
    async with (
        Admin(settings) as admin,
        Runtime(settings, module.classes, fetch, module.authorize) as runtime,
    ):
        admin.watch(runtime)
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR1, _print_counts, runtime
        )
        if load is not None:
            following = asyncio.create_task(_follow(runtime, newer, load))
            following.add_done_callback(lambda _: stop.set())
        if listening is None:
            starter.ready(f"Ready as a worker, link on {runtime.link_address}")
            await stop.wait()
            runtime.front.drain()
        elif module.kind == "asgi":
            outside = _Outside(listening, stop, starter)
            await _serve_asgi(runtime, module.app, outside, settings)
        else:
            outside = _Outside(listening, stop, starter)
            await _serve(runtime, module, outside, settings)


async def _follow(
    runtime: Runtime,
    newer: asyncio.Event,
    load: Callable[[], UserModule],
) -> None:
    """Take every newer version of the module in, until one can't be taken in here."""
    while await newer.wait():
        newer.clear()
        try:
            module = load()
            if module.kind not in (None, "fetch"):
                # What is mounted stays mounted: the next process has the new one.
                return
            await runtime.adopt(module)
        except (UserModuleError, ConfigError) as error:
            log.error("%s", error)  # it is the user's, and has no trace


async def _serve(
    runtime: Runtime,
    module: UserModule,
    outside: _Outside,
    settings: Settings,
) -> None:
    runner: web.BaseRunner
    # What runs when we are asked to stop may take so long to end.
    limit = settings.drain_seconds
    if module.kind == "aiohttp":
        from server.embed import mount_aiohttp

        mount_aiohttp(runtime, module.app)
        runner = web.AppRunner(
            module.app,
            access_log=None,
            shutdown_timeout=limit,
            keepalive_timeout=settings.idle_connection_seconds,
        )
    else:
        runner = web.ServerRunner(
            web.Server(
                runtime.front.handle,
                access_log=None,
                keepalive_timeout=settings.idle_connection_seconds,
            ),
            shutdown_timeout=limit,
        )
    await runner.setup()
    try:
        await web.SockSite(runner, outside.listening, backlog=BACKLOG).start()
        outside.say_ready()
        await outside.stop.wait()
    finally:
        runtime.front.drain()
        await runner.cleanup()


async def _serve_asgi(
    runtime: Runtime,
    app: Any,
    outside: _Outside,
    settings: Settings,
) -> None:
    """Let uvicorn, which knows ASGI, hold the sockets."""
    try:
        import uvicorn
    except ImportError as error:
        raise UserModuleError(
            "an ASGI application needs uvicorn: pip install 'durable-agents[asgi]'"
        ) from error
    from server.embed import mount_asgi

    outside.listening.listen(BACKLOG)
    config = uvicorn.Config(
        mount_asgi(runtime, app),
        log_config=None,
        access_log=False,
        ws="websockets",
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
    )
    server = _quiet_server(uvicorn, config, outside)
    serving = asyncio.ensure_future(server.serve([outside.listening]))
    stopping = asyncio.ensure_future(outside.stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    runtime.front.drain()
    server.should_exit = True
    await serving
    stopping.cancel()


def _quiet_server(uvicorn: Any, config: Any, outside: _Outside) -> Any:
    """A uvicorn that leaves signals to us, and says when it serves."""

    class Server(uvicorn.Server):  # type: ignore[misc]  # uvicorn is optional
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                outside.say_ready()

    return Server(config)


def _listen(settings: Settings, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Accepted sockets inherit these on Linux.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_SECONDS * 1000
        )
    listening.bind((settings.host, settings.port))
    return listening


def calm_collector() -> None:
    """Collect garbage rarely, and never what is there now."""
    # Per-message garbage dies by reference counts; frequent full collections over
    # thousands of live objects cost a third of the CPU (profiled) and free nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 4, 10)


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
