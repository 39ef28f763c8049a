"""What one activation streams, bodies and results: its code, so it runs as the object.

Each piece waits at the output gate. A stream that isn't read to its end keeps its
activation from being evicted; it ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from typing_extensions import TypeIs

from durable.objects.http import aclose

if TYPE_CHECKING:
    from durable.gates.output_gate import OutputGate

T = TypeVar("T")
_END: Final = object()


def is_stream(result: object) -> TypeIs[AsyncIterator[Any]]:
    """Whether a method returned one thing after the other: an async iterator."""
    return hasattr(type(result), "__anext__")


class Streams:
    """Those that are being read."""

    __slots__ = ("_gate", "_run", "open")

    def __init__(
        self, gate: OutputGate, run: Callable[..., Coroutine[Any, Any, Any]]
    ) -> None:
        self._gate = gate
        self._run = run
        # One for each that is being read; done when it has ended.
        self.open: set[asyncio.Future[None]] = set()

    async def pieces(self, source: AsyncIterator[T]) -> AsyncIterator[T]:
        """All that comes, each piece when it may leave.

        Raises:
            Exception: the source's own, or the one that reset the activation.
        """

        async def following() -> Any:
            return await anext(source, _END)

        reading: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open.add(reading)
        try:
            while True:
                if self._gate.broken is not None:
                    raise self._gate.broken
                piece = await self._run(following)
                if piece is _END:
                    return
                yield piece
        finally:
            self.open.discard(reading)
            reading.set_result(None)
            await aclose(source)
