"""The scripted model for tests that aren't async: it runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from durable.testing import ScriptedModel

WORDS = ["An ", "old ", "silent ", "pond"]


@contextmanager
def chat_server() -> Iterator[ScriptedModel]:
    """A running model that says the same words each time."""
    # More often than it is asked.
    model = ScriptedModel(*["".join(WORDS)] * 100)
    with in_thread(model):
        yield model


@contextmanager
def in_thread(model: ScriptedModel) -> Iterator[asyncio.AbstractEventLoop]:
    """Let a model serve; yields its loop, in which its answers' holds are to be set."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        end = asyncio.Event()
        async with model:
            ready.set_result((asyncio.get_running_loop(), end))
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    loop, end = ready.result(timeout=10)
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
