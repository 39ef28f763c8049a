"""Composition: database → worker → router → front end, opened in order."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, cast

from agents.routing import AUTHORIZE
from durable import DurableObject, Env, Unavailable
from durable.domain.placement import Role
from durable.routing.router import Router
from durable.store.agent_sql import AgentSql
from durable.store.classes import Announcement, make, stale
from durable.store.database import Database
from durable.store.sql_login import AgentSqlSettings
from durable.worker.worker import Memory, Worker, WorkerSettings
from server.classes import admit, app_of
from server.config_bindings import bindings_of, namespace_of
from server.fleet import PATIENCE_OF_LEASE, Fleet
from server.front import Fetch, FrontEnd
from server.settings import Settings
from server.timer import PeriodicWork
from server.user_module import UserModule
from server.watchdog import LoopWatchdog

log = logging.getLogger(__name__)

VERSION = "0.1.0"
PING_SECONDS = 30.0


class Runtime:
    """A node's parts; ``async with`` starts and, in reverse, stops them."""

    def __init__(
        self,
        settings: Settings,
        classes: Iterable[type[DurableObject]],
        fetch: Fetch | None = None,
        authorize: Any = None,
    ) -> None:
        self._settings = settings
        self._classes = {cls.__name__: cls for cls in classes}
        self._bindings = bindings_of(settings.project, self._classes)
        self._fetch = fetch
        self._stack = AsyncExitStack()
        self.env = Env(settings.vars)
        self.env.cache[AUTHORIZE] = authorize
        self.fleet: Fleet
        self.front: FrontEnd
        self.worker: Worker

    async def __aenter__(self) -> Runtime:
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.front.drain()
        await self._stack.aclose()

    async def _open(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        dsn = settings.database_url
        assert dsn is not None  # the command line has found one
        database = await stack.enter_async_context(_database(settings, dsn))
        self._database = database
        worker_settings = self._worker_settings(dsn)
        tags = await self._admit(database, worker_settings)
        sql = await stack.enter_async_context(_agent_sql(settings, dsn))
        timer = await stack.enter_async_context(PeriodicWork())
        await stack.enter_async_context(LoopWatchdog(settings.blocked_seconds))
        self.fleet = await stack.enter_async_context(
            Fleet(settings, database, worker_settings.worker_id)
        )
        self.worker = Worker(
            replace(worker_settings, link_address=self.fleet.mesh.address),
            database,
            {tags[None, name]: cls for name, cls in self._classes.items()},
            env=self.env,
            sql=sql,
            timer=timer,
            seams=self.fleet.seams(),
        )
        self._router = router = Router(
            self.worker.dispatcher,
            self.fleet.shard_map,
            shards=settings.shards,
            patience=settings.lease_seconds * PATIENCE_OF_LEASE,
            reach=self.fleet.reach,
        )
        self._bind(self.env, tags)
        await self.fleet.serve(self.worker, router.local, timer)
        await stack.enter_async_context(self.worker)
        self.front = FrontEnd(
            settings, self.env, self._fetch, self.fleet.held, self.fleet.local
        )
        timer.every(PING_SECONDS, self.front.ping_all)

        async def warn_if_stale() -> None:
            await self._warn_if_stale(database)

        timer.every(settings.lease_seconds, warn_if_stale)

    def _bind(self, env: Env, tags: dict[tuple[str | None, str], int]) -> None:
        for binding in self._bindings:
            env.namespaces[binding.name] = namespace_of(
                binding,
                self._classes,
                tags[binding.script_name, binding.class_name],
                self._router,
            )

    async def adopt(self, module: UserModule) -> None:
        """Go on with a newer version of the application; for a front end only.

        Raises:
            ConfigError: the configuration doesn't fit it; nothing has changed.
        """
        assert self._settings.role == "front"  # nothing of the old one is active
        classes = {cls.__name__: cls for cls in module.classes}
        bindings = bindings_of(self._settings.project, classes)
        app = app_of(self._settings.project)
        bound = {(b.script_name, b.class_name) for b in bindings}
        tags: dict[tuple[str | None, str], int] = {}
        async with self._database.connection() as connection:
            for script, name in sorted(bound, key=str):
                made = await make(connection, script or app, [name])
                tags[script, name] = made[name]
        self._classes, self._bindings = classes, bindings
        self.env = Env(self._settings.vars)
        self.env.cache[AUTHORIZE] = module.authorize
        self._bind(self.env, tags)
        self.front.adopt(self.env, module.app if module.kind == "fetch" else None)

    async def _admit(
        self, database: Database, worker: WorkerSettings
    ) -> dict[tuple[str | None, str], int]:
        """The tags of our classes, (None, name), and of those bound from other apps."""
        announcement = Announcement(worker.worker_id, worker.address, worker.version)
        project = self._settings.project
        async with database.connection() as connection:
            # A class without a binding is hosted too: others may be bound to it.
            own = await admit(connection, project, list(self._classes), announcement)
            tags: dict[tuple[str | None, str], int] = {
                (None, name): tag for name, tag in own.items()
            }
            for binding in self._bindings:
                app, name = binding.script_name, binding.class_name
                if app is not None:
                    tags[app, name] = (await make(connection, app, [name]))[name]
        return tags

    async def _warn_if_stale(self, database: Database) -> None:
        """Say why this worker gets no shards, which it only finds out by its row."""
        try:
            async with database.connection() as connection:
                why = await stale(connection, self.worker.settings.worker_id)
        except Unavailable as error:
            log.warning("no look at the worker's row: %s", error)
            return
        if why is not None:
            log.error("this worker serves nothing: restart it: %s", why)

    def _worker_settings(self, dsn: str) -> WorkerSettings:
        settings = self._settings
        return WorkerSettings(
            worker_id=uuid.uuid4(),
            address=f"{settings.host}:{settings.port}",
            version=VERSION,
            dsn=dsn,
            shards=settings.shards,
            lease=settings.lease_seconds,
            freshness=settings.freshness_seconds,
            idle=settings.idle_seconds,
            start_timeout=settings.start_timeout_seconds,
            drain=settings.drain_seconds,
            max_waiting=settings.max_waiting,
            memory=Memory(
                max_value_bytes=settings.max_value_bytes,
                cache_bytes_per_object=settings.cache_bytes_per_object,
                cache_bytes=settings.cache_bytes,
            ),
            role=cast("Role", settings.role),
            weight=settings.weight,
            labels=settings.labels,
        )

    @property
    def link_address(self) -> str | None:
        """Where other nodes reach this one."""
        return self.worker.settings.link_address

    def unready(self) -> str | None:
        """Why no request should be sent here now; None if one should."""
        if self.front.is_draining:
            return "draining"
        role = self._settings.role
        if role != "front" and not self.worker.shards.has_lane:
            return "no lane"
        if role == "worker" and not self.worker.shards.owned:
            return "no shards"
        return None

    def counts(self) -> dict[str, Any]:
        """What is live, for operators."""
        return {
            "activations": len(self.worker.dispatcher),
            "sockets": self.front.sockets,
            "shards": self.worker.shards.owned,
            "links": len(self.fleet.mesh),
            "link_queue": sum(
                peer.connection.queued for peer in self.fleet.mesh.peers()
            ),
            "cache": self.worker.cache.total,
        }


def _database(settings: Settings, dsn: str) -> Database:
    return Database(
        dsn,
        limit=settings.lease_seconds,
        size=settings.read_connections,
        name="durable reads",
    )


def _agent_sql(settings: Settings, dsn: str) -> AgentSql:
    return AgentSql(
        AgentSqlSettings(
            database_url=dsn,
            login_url=settings.sql_url,
            connections=settings.sql_connections,
            lease_seconds=settings.lease_seconds,
        )
    )
