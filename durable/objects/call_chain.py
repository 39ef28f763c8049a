"""Which objects can't go on before the running code returns: how a deadlock is known.

A block that shuts an object's input gate (``block_concurrency_while``, a transaction)
and awaits a call that comes back to the same object would wait for itself. The chain
of such objects goes along with calls, over links, too. It is certain: it holds only in
the very task that the block waits in, so a call that nobody awaits yet is no deadlock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

_blocked: ContextVar[tuple[asyncio.Task[object] | None, tuple[UUID, ...]]] = ContextVar(
    "_blocked", default=(None, ())
)


def blocked_objects() -> tuple[UUID, ...]:
    """The objects that wait for the code that runs, the outermost first."""
    task, objects = _blocked.get()
    return objects if objects and task is asyncio.current_task() else ()


def continue_chain(objects: tuple[UUID, ...]) -> None:
    """This task was begun by code that these objects wait for."""
    _blocked.set((asyncio.current_task(), objects))


@contextmanager
def blocking(object_id: UUID) -> Iterator[None]:
    """Inside, the object lets nobody in."""
    objects = (*blocked_objects(), object_id)
    token = _blocked.set((asyncio.current_task(), objects))
    try:
        yield
    finally:
        _blocked.reset(token)
