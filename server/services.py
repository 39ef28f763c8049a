"""What ``env`` has beside namespaces and variables, and the classes behind it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from durable import DurableObject, DurableObjectNamespace
from durable.domain.ports import Invoker
from server.config_project import Project
from server.config_reader import ConfigError
from server.settings import Settings

GATEWAY = "AIGateway"


def own_classes(
    project: Project, classes: Mapping[str, type[DurableObject]]
) -> dict[str, type[DurableObject]]:
    """Our classes that a node hosts for this project.

    Raises:
        ConfigError: the user's module has a class of that name.
    """
    if project.ai is None:
        return {}
    from agents.ai.gateway_object import AIGateway

    if GATEWAY in classes:
        raise ConfigError(f"[ai] has a class {GATEWAY} of its own: rename the module's")
    return {GATEWAY: AIGateway}


async def add_services(
    stack: AsyncExitStack,
    settings: Settings,
    tags: Mapping[tuple[str | None, str], int],
    router: Invoker,
) -> dict[str, Any]:
    """``env.AI``, if the project has one, by its name; open until the stack closes."""
    project = settings.project
    if project.ai is None:
        return {}
    from agents.ai.binding import AI
    from agents.ai.gateway_object import AIGateway

    gateways = DurableObjectNamespace(GATEWAY, AIGateway, tags[None, GATEWAY], router)
    ai = AI(project.ai, settings.vars, gateways)
    stack.push_async_callback(ai.aclose)
    return {project.ai.binding: ai}
