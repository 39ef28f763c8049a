"""``durable dev``: a front end that stays, and a worker that follows the code.

Promise: after a change of the code the next event of every agent runs in the new one,
with the sockets and the state that it had; a change that can't be started is told, and
what ran before goes on. The worker is started anew, in a process of its own, takes the
shards over, and the old one drains. The front end loads the module again: what it runs
of it are `fetch` and `authorize`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.child import Spawn, reserve
from server.config import load_project
from server.config_reader import ConfigError
from server.several import patience, say
from server.supervisor import Limits, Slot, Supervisor
from server.watching import is_configuration, watch

if TYPE_CHECKING:
    from server.settings import Settings

log = logging.getLogger(__name__)

LONGEST_PAUSE = 5.0


async def serve_dev(settings: Settings, module: str | None) -> bool:
    """Serve until SIGTERM or SIGINT; whether it ever served.

    Raises:
        OSError: the public port can't be had.
        StartError: a node can't be started; it has said why.
    """
    with reserve(settings.host, settings.port) as kept:
        dev = _Dev(settings, module, kept.getsockname()[1])
        return await dev.run()


class _Dev:
    def __init__(self, settings: Settings, module: str | None, port: int) -> None:
        self._settings = settings
        # The nodes load the code while Postgres starts; then they are told where it is.
        self._orders: asyncio.Future[dict[str, Any]] = (
            asyncio.get_running_loop().create_future()
        )
        # Whoever breaks the code will mend it: there is no end of attempts.
        limits = replace(patience(settings), attempts=None, longest_pause=LONGEST_PAUSE)
        target = () if module is None else (module,)
        options = ("--host", settings.host, "--port", str(port))
        arguments = ("dev", *target, *options)
        self._front = self._slot("front", arguments, limits)
        self._worker = self._slot("worker", arguments, limits)
        self._supervisor = Supervisor([self._front, self._worker], self._say)

    def _slot(self, role: str, arguments: Sequence[str], limits: Limits) -> Slot:
        variables = {"DURABLE_ROLE": role}
        if role == "worker" and self._settings.admin_port:
            # The front has it; of workers there are two while the code changes.
            variables["DURABLE_ADMIN_PORT"] = "0"
        spawn = Spawn(
            name=f"the {role}",
            arguments=tuple(arguments),
            variables=variables,
        )
        return Slot(spawn, limits, self._orders)

    def _say(self, text: str) -> None:
        if self._settings.database_url is None:
            from server.embedded_postgres import data_location

            log.info("data are in %s", data_location(self._settings.data_dir))
        say(text)

    async def run(self) -> bool:
        running = asyncio.create_task(self._supervisor.run())
        # From the beginning, or what changes while the nodes load it would be missed.
        following = asyncio.create_task(self._follow())
        try:
            async with _database(self._settings) as dsn:
                if not running.done():
                    await self._migrate(dsn)
                    embedded = self._settings.database_url is None
                    self._orders.set_result({"database_url": dsn, "embedded": embedded})
                await running
        finally:
            running.cancel()
            following.cancel()
            await asyncio.gather(running, following, return_exceptions=True)
        return self._supervisor.served.is_set()

    async def _migrate(self, dsn: str) -> None:
        from server.classes import migrate_classes
        from server.migrate import check_schema, migrate

        settings = self._settings
        await asyncio.to_thread(migrate, dsn, settings.shards)
        await check_schema(dsn, settings.shards)  # their number stays as it was
        await migrate_classes(dsn, settings.project, log.info, dev=True)

    async def _follow(self) -> None:
        """Bring every change of the code to the nodes."""
        directory = Path.cwd()
        async for changed in watch(directory, self._settings.data_dir):
            await self._supervisor.served.wait()
            names = ", ".join(sorted({path.name for path in changed}))
            log.info("%s changed", names)
            try:
                await self._bring(changed, self._orders.result()["database_url"])
            except Exception:  # what a change does must not end the watching
                log.exception("the change is not taken over; what ran before goes on")

    async def _bring(self, changed: set[Path], dsn: str) -> None:
        from server.classes import ClassesError, migrate_classes

        configured = any(is_configuration(path) for path in changed)
        if configured:
            try:
                project = load_project(Path.cwd(), dev=True)
                await migrate_classes(dsn, project, log.info, dev=True)
            except (ConfigError, ClassesError) as error:
                log.error("%s\nwhat ran before goes on", error)
                return
        failed = await self._worker.replace()
        if failed is not None:
            log.error("%s\nthe new code does not start: the old one goes on", failed)
            return
        if configured:
            # Its settings are read once: it ends, and is started again.
            self._front.signal(signal.SIGTERM)
        elif self._front.child is not None:
            self._front.child.tell({"reload": True})
        log.info("the new code takes over")


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[str]:
    """The database that is given, or else the embedded one."""
    async with AsyncExitStack() as stack:
        dsn = settings.database_url
        if dsn is None:
            from server.embedded_postgres import embedded_postgres

            dsn = await stack.enter_async_context(embedded_postgres(settings.data_dir))
        yield dsn
