"""One node process as its supervisor sees it, and the port that several share."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_HOME: Final = Path(__file__).resolve().parents[1]
# `python -m` would put the current directory first, where a user's `server.py` may be;
# our own comes last, for who runs the sources as they are.
_PROGRAM: Final = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from server.__main__ import main; main()"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """How to start a node: its name in logs, its arguments, variables of its own."""

    name: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str]


class Child:
    """A node process that was started, and may have ended."""

    def __init__(self, spawn: Spawn, process: Process) -> None:
        self.spawn = spawn
        self.process = process
        self.ready: asyncio.Future[str | None] = (
            asyncio.get_running_loop().create_future()
        )
        self.failed: str | None = None
        """What it said of why it ended before it was ready."""
        self._writer: asyncio.StreamWriter
        self._reading: asyncio.Task[None]

    @classmethod
    async def start(cls, spawn: Spawn) -> Child:
        """Start the process; ``ready`` is what it says when it serves, or None."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                # Without `site` where we are without.
                *(sys.executable, *(["-S"] if sys.flags.no_site else [])),
                *("-P", "-c", _PROGRAM, str(_HOME)),
                *(*spawn.arguments, "--supervised", str(theirs.fileno())),
                env={**os.environ, **spawn.variables},
                pass_fds=(theirs.fileno(),),
            )
        child = cls(spawn, process)
        reader, child._writer = await asyncio.open_connection(sock=ours)
        child._reading = asyncio.create_task(child._listen(reader))
        return child

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Hear it until it has ended: then its end of the pair is closed."""
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                said = json.loads(line)
                self.failed = said.get("failed")
                if "ready" in said and not self.ready.done():
                    self.ready.set_result(said["ready"])
        await self.process.wait()
        if not self.ready.done():
            self.ready.set_result(None)
        self._writer.close()

    @property
    def alive(self) -> bool:
        """Whether its end hasn't been seen."""
        return self.process.returncode is None

    def tell(self, message: dict[str, Any]) -> None:
        """Send it a message; lost if it has ended."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    def follow(self, orders: asyncio.Future[dict[str, Any]]) -> None:
        """Tell it what a future has brought."""
        if not orders.cancelled():
            self.tell(orders.result())

    def signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        if self.alive:
            # Not `send_signal`: it looks for the exit code, and takes it from asyncio.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def why(self) -> str:
        """Why it ended, as it said itself, or as its exit code tells."""
        if self.failed is not None:
            return self.failed
        code = self.process.returncode
        assert code is not None  # it has ended
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    async def wait(self) -> int:
        """Its exit code, when it has ended."""
        await asyncio.shield(self._reading)
        return await self.process.wait()

    async def stop(self, patience: float) -> None:
        """SIGTERM, so that it drains; SIGKILL after ``patience`` seconds."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(patience):
                await self.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.wait()


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps a port for our processes and takes no connection itself.

    Raises:
        OSError: somebody else has it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Of two that share a port neither is told: so first it is asked for alone.
    with socket.socket(family, socket.SOCK_STREAM) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind((host, port))
        alone.listen(1)
        port = alone.getsockname()[1]
    kept = socket.socket(family, socket.SOCK_STREAM)
    try:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((host, port))
    except OSError:
        kept.close()
        raise
    return kept
