"""Agents inside an application of your own: aiohttp, or any ASGI framework."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from agents import route_agent_request
from durable import DurableObject, Env
from server.asgi import Receive, Scope, Send
from server.config import load_project
from server.runtime import Runtime
from server.settings import Settings

log = logging.getLogger(__name__)

ENV = web.AppKey("durable_env", Env)


class DurableRuntime:
    """Runs agents in this process; open with ``async with``.

    If none are given, settings come from the DURABLE_* variables and the durable.toml
    of the current directory. Without a database URL an embedded Postgres is started,
    and stopped at the end.
    """

    def __init__(
        self,
        classes: Iterable[type[DurableObject]],
        settings: Settings | None = None,
    ) -> None:
        self._classes = tuple(classes)
        self._settings = settings
        self._stack = AsyncExitStack()
        self._runtime: Runtime

    @property
    def env(self) -> Env:
        """The bindings: ``runtime.env.Counter``."""
        return self._runtime.env

    async def __aenter__(self) -> DurableRuntime:
        settings = self._settings or Settings.from_environment(
            os.environ, project=load_project(Path.cwd())
        )
        async with AsyncExitStack() as stack:
            settings = await _with_database(settings, stack)
            runtime = Runtime(settings, self._classes)
            self._runtime = await stack.enter_async_context(runtime)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def route_agent_request(
        self, request: web.Request, **options: Any
    ) -> web.StreamResponse | None:
        """Answer an aiohttp request for an agent; None if its URL isn't one.

        ``options`` are those of ``agents.route_agent_request``.
        """
        fetch = partial(route_agent_request, **options)
        return await self._runtime.front.answer(request, fetch)

    async def asgi(
        self, scope: Scope, receive: Receive, send: Send, **options: Any
    ) -> bool:
        """Answer an ASGI request for an agent; False, untouched, if it isn't one."""
        fetch = partial(route_agent_request, **options)
        return await self._runtime.front.answer_asgi(scope, receive, send, fetch)


async def _with_database(settings: Settings, stack: AsyncExitStack) -> Settings:
    from server.classes import migrate_classes
    from server.migrate import check_schema, migrate

    dsn = settings.database_url
    if dsn is None:
        from server.embedded_postgres import embedded_postgres

        dsn = await stack.enter_async_context(embedded_postgres(settings.data_dir))
        await asyncio.to_thread(migrate, dsn, settings.shards)
        await migrate_classes(dsn, settings.project, log.info, dev=True)
    await check_schema(dsn, settings.shards)
    return dataclasses.replace(settings, database_url=dsn)


def mount_aiohttp(runtime: Runtime, app: web.Application) -> None:
    """Let agent URLs of an aiohttp application go to agents, before its own routes.

    Its handlers find the bindings as ``request.config_dict[ENV]``.
    """

    @web.middleware
    async def agents_first(request: web.Request, handler: Any) -> web.StreamResponse:
        answer = await runtime.front.answer(request, route_agent_request)
        if answer is not None:
            return answer
        response: web.StreamResponse = await handler(request)
        return response

    app[ENV] = runtime.env
    app.middlewares.insert(0, agents_first)


def mount_asgi(runtime: Runtime, app: Any) -> Any:
    """An ASGI application that sends agent URLs to agents and the rest to ``app``.

    Its handlers find the bindings as ``scope["state"]["env"]``.
    """

    async def agents_first(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            front = runtime.front
            if await front.answer_asgi(scope, receive, send, route_agent_request):
                return
            state: Mapping[str, Any] = scope.get("state") or {}
            scope["state"] = {**state, "env": runtime.env}
        await app(scope, receive, send)

    return agents_first
