"""Server processes as a user would start them: a command, a line when it is ready.

A server says ``Ready on http://HOST:PORT`` on stdout once it serves (a worker without
a public port ``Ready as a worker``). What it writes
to stderr is kept, and shown when it doesn't come up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY = "Ready "
TAIL = 4000


class ServerProcessError(Exception):
    """A server did not start, or did not end when it was told to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server process."""

    process: asyncio.subprocess.Process
    url: str
    log: Path

    @property
    def pid(self) -> int:
        """The process to signal and to charge CPU to."""
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL: nothing that the process does can soften it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    async def stop(self, patience: float = 15.0) -> None:
        """SIGTERM and wait; SIGKILL after ``patience`` seconds."""
        if self.process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(patience):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()
            raise ServerProcessError(f"ignored SIGTERM:\n{tail(self.log)}") from None


def tail(log: Path) -> str:
    """The last lines of a server's stderr."""
    return log.read_bytes()[-TAIL:].decode(errors="replace")


def node_environment(**variables: str) -> dict[str, str]:
    """The environment of a server: ours without DURABLE_*, and ``variables``.

    A node refuses variables that it doesn't know, and settings of the person who
    runs the tests must not change what is tested.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DURABLE_")}
    return {**kept, **variables}


async def start(
    command: Sequence[str], *, environment: Mapping[str, str], log: Path
) -> Server:
    """Start a server and wait until it says that it is ready.

    Raises:
        ServerProcessError: it ended first, or was not ready within 30 s.
    """
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env=dict(environment),
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = (await process.stdout.readline()).decode().strip()
    except BaseException as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise ServerProcessError(f"{command}: not ready\n{tail(log)}") from None
        raise
    if not line.startswith(READY):
        # It may have ended by itself by now.
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise ServerProcessError(f"{' '.join(command)} said {line!r}\n{tail(log)}")
    return Server(process=process, url=line.removeprefix("Ready on "), log=log)


@asynccontextmanager
async def running(
    command: Sequence[str], *, environment: Mapping[str, str], log: Path
) -> AsyncIterator[Server]:
    """A server for the length of a block; it is stopped at the end."""
    server = await start(command, environment=environment, log=log)
    try:
        yield server
    finally:
        await server.stop()


async def run_to_end(command: Sequence[str], *, environment: Mapping[str, str]) -> None:
    """Run a command that ends by itself, such as a migration."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=dict(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise ServerProcessError(f"{' '.join(command)}:\n{output.decode()[-TAIL:]}")
