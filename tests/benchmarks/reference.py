"""Serve an aiohttp application as our node does: one process, one free port.

The reference servers print the line that a node prints when it is ready, so that
the benchmark starts all of them in the same way.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from aiohttp import web


async def serve(app: web.Application) -> None:
    """Listen on a free loopback port, say which, and serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    port = runner.addresses[0][1]
    sys.stdout.write(f"Ready on http://127.0.0.1:{port}\n")
    sys.stdout.flush()
    try:
        await stop.wait()
    finally:
        await runner.cleanup()
